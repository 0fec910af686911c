#include "tokenizer/io/binary.h"

#include <algorithm>
#include <bitset>

#include "cpu_reference/interface/error.h"

namespace kiln {
namespace {

using std::string_view_literals::operator""sv;

constexpr std::string_view kNone = "give files of text instead";
constexpr std::string_view kUnpack = "unpack it first; .gz, .zst and .tar are read";
constexpr std::string_view kToText = "convert it to .txt or .jsonl first";
constexpr std::string_view kPython = "convert it first: python3 -c \"import sys, pandas as p; p.read_";
constexpr std::string_view kToLines =
    "(sys.argv[1]).to_json(sys.argv[1] + '.jsonl', orient='records', lines=True, force_ascii=False)\" FILE";

struct Kind {
    std::string_view magic, extension, name, advice, reader = {};
};
constexpr Kind kKinds[] = {
    {"PAR1", ".parquet", "a Parquet file", kPython, "parquet"},
    {"ARROW1", ".arrow", "an Arrow file", kPython, "feather"},
    {"ARROW1", ".feather", "an Arrow file", kPython, "feather"},
    {"PK\3\4", ".zip", "a ZIP archive or an office document", kUnpack},
    {"BZh91AY&SY", ".bz2", "compressed by bzip2", kUnpack},
    {"\xFD"
     "7zXZ\0"sv,
     ".xz", "compressed by xz", kUnpack},
    {"7z\xBC\xAF\x27\x1C", ".7z", "a 7z archive", kUnpack},
    {"Rar!\x1A\x07", ".rar", "a RAR archive", kUnpack},
    {"\x04\x22\x4D\x18", ".lz4", "compressed by lz4", kUnpack},
    {"%PDF-", ".pdf", "a PDF document", kToText},
    {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", ".doc", "an office document", kToText},
    {"SQLite format 3\0"sv, ".sqlite", "a SQLite database", kToText},
    {"\x89HDF\r\n\x1A\n", ".h5", "an HDF5 file", kToText},
    {"\x93NUMPY", ".npy", "a NumPy array", kToText},
    {"\x89PNG\r\n\x1A\n", ".png", "a picture", kNone},
    {"\xFF\xD8\xFF", ".jpg", "a picture", kNone},
    {"GIF89a", ".gif", "a picture", kNone},
    {"\x7F"
     "ELF",
     ".so", "a program", kNone},
    {"GGUF", ".gguf", "a model in GGUF", kNone},
    {"\x88\xD8\x34\x01", "", "a shard of tokens; `kiln prepare` takes text", ""},
    {"\xA1\xD9\x34\x01", "", "a shard of tokens; `kiln prepare` takes text", ""},
    {"\x80\x02", ".pkl", "a Python pickle", kToText},
    {"\x80\x03", ".pt", "a Python pickle", kToText},
    {"\x80\x04", ".pickle", "a Python pickle", kToText},
    {"version https://git-lfs.github.com/spec/", "", "a pointer of Git LFS, not the data itself",
     "fetch that with `git lfs pull`"},
    {"", ".bin", "binary data, by its name", kToText},
    {"", ".safetensors", "a file of tensors", kNone},
};

constexpr size_t kShort = 4;  // text may begin with so few bytes of a magic number

std::string advice_of(const Kind& kind) {
    if (kind.advice.empty()) return "";
    return concat("; ", kind.advice, kind.reader, kind.reader.empty() ? "" : kToLines);
}

// Whether text does not have this control character. White space, backspace, escape and Ctrl-Z occur in text.
bool is_control(unsigned char c) {
    return c < 0x20 ? std::string_view("\b\t\n\v\f\r\x1A\x1B").find(char(c)) == std::string_view::npos : c == 0x7F;
}

}  // namespace

std::string not_text(std::string_view head) {
    size_t controls = 0;
    for (size_t i = 0; i < head.size(); i++) {
        const auto c = static_cast<unsigned char>(head[i]);
        const bool c1 = c == 0xC2 && i + 1 < head.size() && (head[i + 1] & 0xE0) == 0x80;  // U+0080 to U+009F
        controls += is_control(c) || c1;
    }
    const size_t zeros = size_t(std::count(head.begin(), head.end(), '\0'));
    // Text has almost no control characters. Of random bytes one in ten is one, and one in seven once they are read as
    // Latin-1; a NUL shows most of the others.
    const bool binary = zeros > 0 || controls * 10 > head.size();
    for (const Kind& kind : kKinds) {
        const bool same = !kind.magic.empty() && head.starts_with(kind.magic);
        if (same && (binary || kind.magic.size() > kShort)) return concat("is ", kind.name, advice_of(kind));
    }
    if (zeros > 0) {
        const std::string order = utf16_order(head);
        return concat("is not text: byte ", head.find('\0'),
                      " is NUL; if it is text in UTF-16, read it with --encoding ",
                      order.empty() ? "utf-16le or utf-16be" : order);
    }
    return binary ? concat("is not text: of its first ", head.size(), " bytes ", controls, " are control characters")
                  : "";
}

std::string utf16_order(std::string_view head) {
    std::bitset<256> seen[2];
    for (size_t i = 0; i < head.size(); i++) seen[i % 2].set(static_cast<unsigned char>(head[i]));
    const size_t first = seen[0].count(), second = seen[1].count();
    return first >= 2 * second ? "utf-16le" : second >= 2 * first ? "utf-16be" : "";
}

std::string conversion_of(std::string_view extension, std::string_view head) {
    for (const Kind& kind : kKinds) {
        if (kind.magic.size() > kShort && head.starts_with(kind.magic))
            return concat("is ", kind.name, advice_of(kind));
    }
    for (const Kind& kind : kKinds) {
        if (!extension.empty() && kind.extension == extension) return concat("is ", kind.name, advice_of(kind));
    }
    return "";
}

}  // namespace kiln
