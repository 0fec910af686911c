#include "tokenizer/documents.h"

#include <optional>
#include <utility>

#include "cpu_reference/error.h"
#include "tokenizer/text_source.h"

namespace kiln {

namespace fs = std::filesystem;

namespace {

std::string_view without_newline(std::string_view line) {
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
}

bool is_blank(std::string_view line) {
    return line.find_first_not_of(" \t\r\n") == line.npos;
}

}  // namespace

struct DocumentReader::Impl {
    Impl(std::vector<fs::path> files, DocumentOptions options)
        : files(std::move(files)), options(std::move(options)), cutter(this->options.piece_bytes) {
        KILN_CHECK(this->options.piece_bytes >= 16, "pieces of ", this->options.piece_bytes, " bytes are too short");
        for (const fs::path& file : this->files) {
            std::error_code ignored;
            if (fs::is_regular_file(file, ignored)) bytes_total += fs::file_size(file, ignored);
        }
    }

    bool next(Piece& piece) {
        for (;;) {
            if (!input && !open_next()) return false;
            if (format == Format::text ? next_of_text(piece) : next_of_records(piece)) return true;
            bytes_of_finished_files += input->bytes_read();
            scanner.reset();
            input.reset();
        }
    }

    bool open_next() {
        if (next_file == files.size()) return false;
        input.emplace(files[next_file++]);
        file_ended = false;
        const std::string extension = input->path().extension().string();
        format = extension == ".jsonl" || extension == ".ndjson" ? Format::json_lines
                 : extension == ".json"                          ? Format::json
                                                                 : Format::text;
        if (format == Format::json) scanner.emplace(*input);
        return true;
    }

    // A line is part of a document, or its end, or both.
    bool next_of_text(Piece& piece) {
        const bool by_separator = !options.separator.empty();
        const bool whole_file = !by_separator && options.mode == DocumentMode::file;
        const bool by_line = !by_separator && options.mode == DocumentMode::line;
        while (!cutter.take(piece, input->path())) {
            if (file_ended) return false;
            std::string_view part;
            bool starts_line, ends_line;
            const uint64_t line = input->line(), offset = input->offset();
            file_ended = !input->next_line(part, starts_line, ends_line);
            if (file_ended) {
                cutter.end(!whole_file);
                continue;
            }
            const bool separates = starts_line && ends_line && !whole_file &&
                                   (by_separator ? without_newline(part) == options.separator : is_blank(part));
            if (!separates) cutter.append(part, line, offset);
            if (separates || (by_line && ends_line)) cutter.end(true);
        }
        return true;
    }

    bool next_of_records(Piece& piece) {
        while (!cutter.take(piece, input->path())) {
            std::string record;
            uint64_t line = input->line();
            if (!(format == Format::json ? scanner->next(record, line) : next_json_line(record, line))) return false;
            const std::string where = concat(input->path().string(), ":", line);
            cutter.append(record_text(record, options.text_key, where), line, 0);
            cutter.end(false);
        }
        return true;
    }

    // Blank lines are passed over.
    bool next_json_line(std::string& record, uint64_t& line) {
        std::string_view part;
        bool starts_line, ends_line;
        line = input->line();
        while (input->next_line(part, starts_line, ends_line)) {
            if (starts_line && ends_line && is_blank(part)) {
                line = input->line();
                continue;
            }
            record += part;
            KILN_CHECK(record.size() < kMaxLineBytes, input->path().string(), ":", input->line(),
                       ": a line of more than ", kMaxLineBytes, " bytes; is this file JSON lines?");
            if (ends_line) return true;
        }
        return false;
    }

    static constexpr size_t kMaxLineBytes = size_t(1) << 30;
    enum class Format { text, json_lines, json };

    const std::vector<fs::path> files;
    const DocumentOptions options;
    size_t next_file = 0;
    uint64_t bytes_total = 0, bytes_of_finished_files = 0;
    std::optional<BufferedInput> input;
    std::optional<JsonScanner> scanner;
    Format format = Format::text;
    bool file_ended = false;
    PieceCutter cutter;
};

DocumentReader::DocumentReader(std::vector<fs::path> files, DocumentOptions options)
    : impl_(std::make_unique<Impl>(std::move(files), std::move(options))) {}
DocumentReader::DocumentReader(DocumentReader&&) noexcept = default;
DocumentReader::~DocumentReader() = default;

bool DocumentReader::next(Piece& piece) {
    return impl_->next(piece);
}

uint64_t DocumentReader::bytes_read() const {
    return impl_->bytes_of_finished_files + (impl_->input ? impl_->input->bytes_read() : 0);
}

uint64_t DocumentReader::bytes_total() const {
    return impl_->bytes_total;
}

}  // namespace kiln
