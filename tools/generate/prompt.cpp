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

std::vector<int> encode_prompt(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options, int context) {
    constexpr size_t kPartBytes = size_t(256) << 10;
    std::vector<int> ids;
    do {
        size_t end = 0;
        for (size_t window = 2 * kPartBytes; end == 0 && window < text.size(); window *= 2) {
            end = tokenizer.find_cut(text.substr(0, window), kPartBytes, options);
        }
        const bool cut = end > 0;
        options.continued = cut;
        tokenizer.encode(cut ? text.substr(0, end) : text, options, ids);
        options.continues = true;
        text = cut ? text.substr(end) : "";
        KILN_CHECK(!cut || ids.size() < size_t(context), "a prompt of more than ", ids.size(),
                   " tokens leaves no room in the model's context of ", context,
                   " tokens; shorten it, or use a model with a longer context");
    } while (!text.empty());
    return ids;
}

}  // namespace kiln
