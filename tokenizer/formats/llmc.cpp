#include "tokenizer/formats/llmc.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <tuple>

#include "cpu_reference/interface/error.h"
#include "tokenizer/huggingface/parts.h"

namespace kiln {
namespace {

constexpr uint32_t kMagic = 20240328, kVersion = 2;
using Header = std::array<uint32_t, 256>;

}  // namespace

bool is_llmc_tokenizer(std::string_view file) {
    uint32_t magic = 0;
    if (file.size() >= sizeof(Header)) std::memcpy(&magic, file.data(), sizeof magic);
    return magic == kMagic;
}

Tokenizer parse_llmc_tokenizer(std::string_view file, const std::string& name) {
    KILN_CHECK(is_llmc_tokenizer(file), name, ": is not a tokenizer of llm.c, which begins with ", kMagic);
    Header header;
    std::memcpy(header.data(), file.data(), sizeof header);
    const auto [version, ids, end_of_text] = std::tuple(header[1], header[2], header[3]);
    KILN_CHECK(version == kVersion, name, ": has version ", version, "; Kiln reads version ", kVersion,
               " of llm.c's tokenizers, which names the end-of-text token");
    KILN_CHECK(ids <= file.size() - sizeof header, name, ": claims ", ids, " tokens in ", file.size(),
               " bytes; the file is damaged, get it again");
    KILN_CHECK(end_of_text < ids, name, ": says that token ", end_of_text, " of ", ids,
               " ends a text; the file is damaged, get it again");
    std::vector<RankedToken> ranked;
    SpecialToken end{.content = {}, .id = int(end_of_text)};
    size_t at = sizeof header;
    for (uint32_t id = 0; id < ids; id++) {
        const size_t bytes = at < file.size() ? static_cast<unsigned char>(file[at++]) : 0;
        KILN_CHECK(bytes > 0 && bytes <= file.size() - at, name, ": byte ", at, ": token ", id,
                   bytes > 0 ? " is cut short" : " has no bytes", "; the file is damaged, get it again");
        const std::string token(file.substr(at, bytes));
        at += bytes;
        if (id == end_of_text) {
            end.content = token;
        } else {
            ranked.push_back({token, int(id)});
        }
    }
    KILN_CHECK(at == file.size(), name, ": has ", file.size() - at, " bytes after its last token; get it again");
    TokenizerParts parts =
        parts_of_ranks(ranked, name, {.last = PreTokenizer(PreTokenizerKind::kGpt2)}, {std::move(end)});
    parts.roles[Role::eos] = {int(end_of_text), name};
    return make_tokenizer(std::move(parts), name);
}

bool is_byte_level(const Tokenizer& tokenizer) {
    std::array<bool, 256> found{};
    for (int id = 0; id < tokenizer.vocab_size(); id++) {
        const std::string_view bytes = tokenizer.token_bytes(id);
        if (bytes.size() == 1) found[static_cast<unsigned char>(bytes[0])] = true;
    }
    const bool sentencepiece = tokenizer.kind().files().front().name == "tokenizer.model";
    return !sentencepiece && std::ranges::count(found, false) == 0;
}

std::string write_llmc_tokenizer(const Tokenizer& tokenizer) {
    Header header{kMagic, kVersion, uint32_t(tokenizer.vocab_size()), uint32_t(tokenizer.end_of_text())};
    std::string file(reinterpret_cast<const char*>(header.data()), sizeof header);
    for (int id = 0; id < tokenizer.vocab_size(); id++) {
        const std::string_view bytes = tokenizer.token_bytes(id);
        KILN_CHECK(!bytes.empty() && bytes.size() <= 255, "llm.c's tokenizer file has 1 to 255 bytes for each id; id ",
                   id, " has ", bytes.size());
        file += char(bytes.size());
        file += bytes;
    }
    return file;
}

}  // namespace kiln
