#include "tools/generate/prompt.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

void check_prompt(const std::string& text, const std::string& where) {
    const auto offset = find_invalid_utf8(text);
    KILN_CHECK(!offset, where, ": is not UTF-8 at byte ", *offset, "; convert it first, for example with iconv");
}

std::string prompt_text(const std::string& prompt) {
    constexpr std::string_view kFile = "FILE:";
    const bool in_file = prompt.starts_with(kFile);
    const std::string path = in_file ? prompt.substr(kFile.size()) : "";
    KILN_CHECK(!in_file || !path.empty(), "--prompt FILE: names no file; write its path behind the colon");
    const std::string text = in_file ? InputFile::stream(path).read_all(kMaxFileBytes) : prompt;
    check_prompt(text, in_file ? path : "--prompt");
    KILN_CHECK(!in_file || !text.empty(), path, ": is empty, so it is no prompt");
    return text;
}

std::vector<std::string> prompts_in_lines(const std::string& path) {
    const std::string content = InputFile::stream(path).read_all(kMaxFileBytes);
    check_prompt(content, path);
    std::vector<std::string> prompts;
    for (size_t begin = 0; begin < content.size();) {
        const size_t end = std::min(content.find('\n', begin), content.size());
        std::string line = content.substr(begin, end - begin);
        if (line.ends_with('\r')) line.pop_back();
        if (line.find_first_not_of(" \t") != line.npos) prompts.push_back(line);
        begin = end + 1;
    }
    KILN_CHECK(!prompts.empty(), path, ": holds no prompt; write one prompt per line");
    return prompts;
}

}  // namespace kiln
