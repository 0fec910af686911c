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
    return splitting::skip_run(text.data(), end, CharClass::kSpace) == end;
}

// What is lost of a document that is too long to be one piece.
std::string part_left_out(const Piece& piece) {
    if (piece.starts_document && piece.ends_document) return "";
    return concat("; ", piece.text.size(), " bytes of the document");
}

}  // namespace

void BlockParser::parse(const Block& block, const OnPiece& on_piece, std::vector<BadRecord>& bad) {
    if (block.format == DocumentFormat::text) {
        parse_text(block, on_piece, bad);
    } else {
        const bool is_json = block.format == DocumentFormat::json || block.format == DocumentFormat::jsonl;
        for (const Block::Span& span : block.records) {
            const std::string_view record = block.text().substr(span.begin, span.size);
            try {
                std::string row;
                std::string_view text;
                if (is_json) {
                    text = json_.text(record, options_.text_keys);
                } else {
                    row = csv_text(record, block.csv);
                    text = row;
                }
                cut(block, span.begin, text, true, false, on_piece, bad);
            } catch (const Error& error) {
                bad.push_back({block.place(span.begin), error.what()});
            }
        }
    }
    bad.insert(bad.end(), block.bad.begin(), block.bad.end());
}

void BlockParser::parse_text(const Block& block, const OnPiece& on_piece, std::vector<BadRecord>& bad) {
    const std::string_view text = block.text();
    if (block.open || lines_.whole_file()) {
        if (!block.open) return cut(block, 0, text, !block.continues, false, on_piece, bad);
        return give(block, 0, {text, !block.continues, false}, on_piece, bad);
    }
    size_t begin = 0;
    bool starts = !block.continues;
    const auto document = [&](size_t end) {
        if (end > begin || !starts) cut(block, begin, text.substr(begin, end - begin), starts, true, on_piece, bad);
        starts = true;
    };
    for (size_t line = 0, next; line < text.size(); line = next) {
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
                      const OnPiece& on_piece, std::vector<BadRecord>& bad) {
    std::string_view rest = drop_newlines ? without_newlines(document, kNewlinesAside) : document;
    while (const size_t length = find_cut(rest, options_.piece_bytes)) {
        give(block, at, {rest.substr(0, length), std::exchange(starts, false), false}, on_piece, bad);
        rest.remove_prefix(length);
        if (block.format == DocumentFormat::text) at += length;
    }
    if (drop_newlines) rest = without_newlines(rest);
    if (starts && is_blank(rest)) return;
    give(block, at, {rest, starts, true}, on_piece, bad);
}

void BlockParser::give(const Block& block, size_t at, Piece piece, const OnPiece& on_piece,
                       std::vector<BadRecord>& bad) {
    piece.at = at;
    piece.valid = simdjson::validate_utf8(piece.text);
    if (!piece.valid) {
        const size_t wrong = *find_invalid_utf8(piece.text);
        const bool plain = block.format == DocumentFormat::text;  // else escapes and quotes moved the bytes
        bad.push_back({block.place(plain ? at + wrong : at),
                       concat("byte ", plain ? block.offset + at + wrong : wrong, plain ? "" : " of the text",
                              " (value ", int(static_cast<unsigned char>(piece.text[wrong])), ") is not UTF-8; ",
                              kEncodingHint, part_left_out(piece))});
        piece.text = {};
    }
    on_piece(piece);
}

}  // namespace kiln
