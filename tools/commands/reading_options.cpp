#include "tools/commands/reading_options.h"

#include <algorithm>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tokenizer/io/byte_source.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

// The member of text_encodings() with this name or another usual one, ignoring case. Throws UsageError.
std::string encoding_named(const std::string& text) {
    const auto plain = [](std::string name) {
        std::erase_if(name, [](char c) { return c == '-' || c == '_' || c == ' '; });
        for (char& c : name) c = c >= 'A' && c <= 'Z' ? char(c + 32) : c;
        return name;
    };
    std::string name = plain(text), known;
    if (name == "iso88591") name = "latin1";
    if (name == "cp1252") name = "windows1252";
    if (name == "gbk" || name == "gb2312" || name == "cp936") name = "gb18030";  // which contains both
    for (const std::string& encoding : text_encodings()) {
        if (plain(encoding) == name) return encoding;
        known += (known.empty() ? "" : ", ") + encoding;
    }
    throw UsageError(concat("--encoding: \"", text, "\" is not one of ", known, "; did you mean ",
                            nearest(text, text_encodings()), "?"));
}

}  // namespace

void add_reading_options(OptionSet& set, ReadingOptions& reading) {
    std::string encodings;
    for (const std::string& name : text_encodings()) encodings += (encodings.empty() ? "" : ", ") + name;
    set.add(reading.text_key,
            {.name = "text-key",
             .unit = "NAMES",
             .help = "fields or columns, for example text,content; the first that a record has is its text"});
    set.add(
        reading.format,
        {.name = "format", .help = "format of the files; auto: by their names", .choices = document_format_names()});
    set.add(reading.encoding,
            {.name = "encoding", .help = "encoding of the files: " + encodings + "; all are converted to UTF-8"});
}

DocumentOptions ReadingOptions::options() const {
    DocumentOptions options;
    options.encoding = encoding_named(encoding);
    options.format =
        DocumentFormat(std::ranges::find(document_format_names(), format) - document_format_names().begin());
    if (find_invalid_utf8(text_key)) throw UsageError("--text-key: is not UTF-8");
    options.text_keys = split_at_commas({text_key});
    if (options.text_keys.empty()) throw UsageError("--text-key: \"" + text_key + "\" names no field");
    return options;
}

}  // namespace kiln
