#include "tokenizer/prepare/block_parser.h"

#include <simdjson.h>
#include <algorithm>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tokenizer/pre_tokenizer/scanners.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {

namespace {

bool is_blank(std::string_view text) {
    const char* const end = text.data() + text.size();
    return scanners::skip_run(text.data(), end, CharClass::kSpace) == end;
}

// For messages: how much is lost of a document that has several chunks.
std::string lost_part(const Chunk& chunk) {
    if (chunk.starts_document && chunk.ends_document) return "";
    return concat("; ", chunk.text.size(), " bytes of the document");
}

}  // namespace

void BlockParser::parse(const Block& block, const OnChunk& on_chunk, BadRecords& bad) {
    if (block.format == DocumentFormat::text) {
        parse_text(block, on_chunk, bad);
    } else {
        for (const Block::Span& span : block.records) {
            const std::string_view record = block.text().substr(span.begin, span.size);
            try {
                std::string row;
                std::string_view text;
                switch (block.format) {
                    case DocumentFormat::automatic:
                    case DocumentFormat::text: break;  // without records
                    case DocumentFormat::jsonl:
                    case DocumentFormat::json: text = json_.text(record, options_.text_keys); break;
                    case DocumentFormat::csv:
                    case DocumentFormat::tsv: text = row = csv_text(record, block.csv); break;
                }
                for (size_t at; lines_.within_lines() && (at = text.find(options_.separator)) != text.npos;) {
                    cut(block, span.begin, text.substr(0, at), true, true, on_chunk, bad);
                    text.remove_prefix(lines_.after_separator(text, at));
                }
                cut(block, span.begin, text, true, false, on_chunk, bad);
            } catch (const Error& error) {
                bad.add({block.place(span.begin), error.what()});
            }
        }
    }
    for (const BadRecord& record : block.bad) bad.add(record);
}

void BlockParser::parse_text(const Block& block, const OnChunk& on_chunk, BadRecords& bad) {
    const std::string_view text = block.text();
    if (block.open || lines_.whole_file()) {
        if (!block.open) return cut(block, 0, text, !block.continues, false, on_chunk, bad);
        return give(block, 0, {text, !block.continues, false}, on_chunk, bad);
    }
    size_t begin = 0;
    bool starts = !block.continues;
    const auto document = [&](size_t end) {
        if (end > begin || !starts) cut(block, begin, text.substr(begin, end - begin), starts, true, on_chunk, bad);
        starts = true;
    };
    for (size_t at; lines_.within_lines() && (at = text.find(options_.separator, begin)) != text.npos;) {
        document(at);
        begin = lines_.after_separator(text, at);
    }
    for (size_t line = 0, next; line < text.size() && !lines_.within_lines(); line = next) {
        next = std::min(text.find('\n', line), text.size() - 1) + 1;
        const bool divides = !(line == 0 && block.in_line) && lines_.divides(text.substr(line, next - line));
        if (divides || lines_.every_line()) {
            document(divides ? line : next);
            begin = next;
        }
    }
    if (begin < text.size() || !starts) document(text.size());
}

void BlockParser::cut(const Block& block, size_t at, std::string_view document, bool starts, bool drop_newlines,
                      const OnChunk& on_chunk, BadRecords& bad) {
    std::string_view rest = drop_newlines ? without_newlines(document, kMaxTrailingNewlines) : document;
    while (const size_t length = options_.find_cut(rest, options_.chunk_bytes)) {
        give(block, at, {rest.substr(0, length), std::exchange(starts, false), false}, on_chunk, bad);
        rest.remove_prefix(length);
        if (block.format == DocumentFormat::text) at += length;
    }
    if (drop_newlines) rest = without_newlines(rest);
    if (starts && is_blank(rest)) return;
    give(block, at, {rest, starts, true}, on_chunk, bad);
}

void BlockParser::give(const Block& block, size_t at, Chunk chunk, const OnChunk& on_chunk, BadRecords& bad) {
    chunk.at = at;
    const bool plain = block.format == DocumentFormat::text;  // else escapes and quotes changed the offsets
    // In JSON, NUL comes only from the escape \u0000, which was written on purpose, so it is kept.
    const bool is_json = block.format == DocumentFormat::jsonl || block.format == DocumentFormat::json;
    const size_t nul = is_json ? chunk.text.npos : chunk.text.find('\0');
    chunk.valid = nul == chunk.text.npos && simdjson::validate_utf8(chunk.text);
    if (!chunk.valid) {
        const bool is_nul = nul != chunk.text.npos;
        const size_t wrong = is_nul ? nul : *find_invalid_utf8(chunk.text);
        const std::string where =
            concat("byte ", plain ? block.offset + at + wrong : wrong, plain ? "" : " of the text");
        bad.add({block.place(plain ? at + wrong : at),
                 concat(is_nul ? concat(where, " is NUL, which is not text")
                               : concat(where, " (value ", int(static_cast<unsigned char>(chunk.text[wrong])),
                                        ") is not UTF-8; ", encoding_hint(chunk.text, wrong)),
                        lost_part(chunk))});
        chunk.text = {};
    }
    on_chunk(chunk);
}

}  // namespace kiln
