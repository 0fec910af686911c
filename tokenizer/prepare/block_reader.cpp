#include "tokenizer/prepare/block_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu_reference/interface/error.h"

namespace kiln {

namespace {

constexpr size_t kReadBytes = size_t(64) << 10;

// Faster than std::count, which widens every byte to 64 bits: counts up to 255 fit into bytes.
uint64_t count_newlines(std::string_view text) {
    uint64_t count = 0;
    while (!text.empty()) {
        const size_t n = std::min<size_t>(text.size(), 255);
        uint8_t some = 0;
        for (size_t i = 0; i < n; i++) some = uint8_t(some + (text[i] == '\n'));
        count += some;
        text.remove_prefix(n);
    }
    return count;
}

}  // namespace

BlockReader::BlockReader(std::vector<InputFileInfo> files, DocumentOptions options, const InputPosition& from)
    : files_(std::move(files)), options_(std::move(options)), lines_(options_), file_(from.file), from_(from) {
    KILN_CHECK(options_.chunk_bytes >= 16 && options_.block_bytes >= 1, "chunks of ", options_.chunk_bytes,
               " and blocks of ", options_.block_bytes, " bytes are too short");
    // Block::Span has 32-bit offsets.
    KILN_CHECK(options_.max_record_bytes + 2 * options_.block_bytes < UINT32_MAX, "records of ",
               options_.max_record_bytes, " bytes are too long");
    for (size_t i = 0; i < files_.size(); i++) {
        bytes_total_ += files_[i].bytes;
        if (i < file_) bytes_before_ += files_[i].bytes;
    }
}

bool BlockReader::open(const InputPosition& from) {
    if (!source_) {
        source_.emplace(files_[file_].path, options_.encoding, [this](const std::string& member) {
            if (!is_text_name(member)) passed_over_.push_back(concat(files_[file_].path.string(), ":", member));
            return is_text_name(member);
        });
        for (member_ = 0; member_ < from.member; member_++) source_->next();
    }
    if (!source_->next()) return false;
    open_text_ = true;
    format_ = options_.format == DocumentFormat::automatic ? format_of(source_->name()) : options_.format;
    pending_.clear();
    at_end_ = false;
    offset_ = from.offset;
    line_ = from.line;
    record_ = from.records;
    skipped_ = 0;
    continues_ = from.continues;
    in_line_ = from.in_line;
    open_ = false;
    scanner_.reset();
    switch (format_) {
        case DocumentFormat::automatic:
        case DocumentFormat::text: break;
        case DocumentFormat::jsonl: scanner_ = std::make_unique<LineScanner>(); break;
        case DocumentFormat::json: scanner_ = std::make_unique<JsonScanner>(from.json_state); break;
        case DocumentFormat::csv: read_csv_header(',', from.offset); return true;
        case DocumentFormat::tsv: read_csv_header('\t', from.offset); return true;
    }
    source_->skip(from.offset);
    return true;
}

void BlockReader::read_csv_header(char delimiter, uint64_t skip) {
    const std::string& name = source_->name();
    constexpr size_t kMaxHeader = size_t(1) << 20;
    CsvScanner scanner(delimiter);
    std::vector<Block::Span> rows;
    for (size_t want = 4096; rows.empty() && !at_end_ && want <= kMaxHeader; want *= 2) {
        fill(want);
        scanner.scan(pending_, rows);
    }
    if (rows.empty() && at_end_) scanner.finish(pending_, rows);
    scanner_ = std::make_unique<CsvScanner>(delimiter);
    if (rows.empty() && at_end_ && pending_.find_first_not_of(" \t\r\n") == pending_.npos)
        return;  // a file without rows
    KILN_CHECK(!rows.empty(), name, ":1: the header row does not end; is this a CSV file?");
    const size_t after = std::min(pending_.size(), size_t(rows[0].begin) + rows[0].size + 1);
    try {
        csv_ =
            csv_layout(std::string_view(pending_).substr(rows[0].begin, rows[0].size), delimiter, options_.text_keys);
    } catch (const Error& error) {
        throw Error(concat(name, ":1: ", error.what()));
    }
    if (skip == 0) {
        line_ += count_newlines(std::string_view(pending_).substr(0, after));
        offset_ += after;
        pending_.erase(0, after);
    } else if (skip <= pending_.size()) {
        pending_.erase(0, skip);
    } else {
        source_->skip(skip - std::exchange(pending_, {}).size());
    }
}

void BlockReader::fill(size_t bytes) {
    size_t have = pending_.size();
    if (have >= bytes || at_end_) return;
    pending_.reserve(bytes + JsonRecords::kPadding);  // so that give() can add the padding without a copy
    while (have < bytes && !at_end_) {
        pending_.resize(std::min(bytes, have + kReadBytes));  // a small part stays in the core's cache until it is read
        const size_t n = source_->read(&pending_[have], pending_.size() - have);
        at_end_ = n == 0;
        have += n;
    }
    pending_.resize(have);
}

bool BlockReader::next(Block& block) {
    for (;;) {
        if (!open_text_) {
            if (file_ == files_.size()) return false;
            if (!open(std::exchange(from_, {}))) {
                bytes_before_ += source_->file_bytes();
                source_.reset();
                file_++;
                continue;
            }
        }
        // A block has one chunk of such a document, and the text after it is copied each time: read less.
        const bool in_chunks = !scanner_ && lines_.whole_file();
        const size_t step = in_chunks ? std::min(options_.block_bytes, 2 * options_.chunk_bytes) : options_.block_bytes;
        // The text of a document that cannot be cut yet is searched again each time: grow by a part of it.
        for (size_t wanted = step;; wanted = pending_.size() + std::max(step, scanner_ ? 0 : pending_.size() / 2)) {
            fill(wanted);
            if (const size_t end = scanner_ ? record_end() : text_end()) {
                give(block, end);
                return true;
            }
            if (at_end_) break;
            KILN_CHECK(scanner_ || pending_.size() <= options_.max_record_bytes, source_->name(), ":", line_,
                       ": more than ", options_.max_record_bytes,
                       " bytes of one document cannot be cut, because the tokenizer's ids depend on all of them; make "
                       "the documents shorter (--documents line or paragraph, --document-separator)");
        }
        const bool reported = !bad_.empty();
        if (reported) give(block, pending_.size());
        open_text_ = false;
        member_++;
        if (reported) {
            block.end = {.file = file_, .member = member_};
            return true;
        }
    }
}

size_t BlockReader::text_end() {
    open_ = false;
    if (at_end_) return pending_.size();
    std::string_view text = pending_;
    const auto line_before = [&](size_t end) {  // start of the line that ends at `end`
        const void* newline = end < 2 ? nullptr : ::memrchr(text.data(), '\n', end - 1);
        return newline ? size_t(static_cast<const char*>(newline) - text.data()) + 1 : 0;
    };
    if (lines_.within_lines()) {
        // What follows a separator at the end may be a newline; the start of a separator may be at the end.
        const size_t open = lines_.separator.size() + 1;
        const size_t searched = text.size() - std::min<size_t>(text.size(), 2);
        if (const size_t at = text.substr(0, searched).rfind(lines_.separator); at != text.npos) {
            return lines_.after_separator(text, at);
        }
        text = without_newlines(text.substr(0, text.size() - std::min(text.size(), open)), kMaxTrailingNewlines);
    } else if (!lines_.whole_file()) {
        const size_t whole = line_before(text.size() + 1);  // end of the last whole line
        if (lines_.every_line() && whole > 0) return whole;
        for (size_t end = whole, begin; end > 0 && !lines_.every_line(); end = begin) {
            begin = line_before(end);
            if ((begin > 0 || !in_line_) && lines_.divides(text.substr(begin, end - begin))) return end;
        }
        if ((whole > 0 || !in_line_) && lines_.may_divide(text.substr(whole))) text = text.substr(0, whole);
        text = without_newlines(text, kMaxTrailingNewlines);
    }
    const size_t cut = options_.find_cut(text, options_.chunk_bytes);
    open_ = cut > 0;
    return cut;
}

size_t BlockReader::record_end() {
    scanner_->scan(pending_, records_);
    if (at_end_ && scanner_->mistake().empty()) scanner_->finish(pending_, records_);
    if (!scanner_->mistake().empty()) {
        report(scanner_->mistake() + "; the rest of the file cannot be read", scanner_->scanned());
        KILN_CHECK(options_.keep_start_of_damaged, bad_.back().place, ": ", bad_.back().what,
                   ". Repair the file or leave it out; --max-bad-fraction 1 uses the records before the damage");
        at_end_ = true;
        return 0;
    }
    if (scanner_->in_record() && !scanner_->skipping() &&
        pending_.size() - scanner_->begin() > options_.max_record_bytes) {
        report(concat("a record of more than ", options_.max_record_bytes, " bytes",
                      format_ == DocumentFormat::json || format_ == DocumentFormat::jsonl
                          ? "; is it one record, or is a newline missing?"
                          : "; is a quote not closed?"),
               scanner_->begin());
        scanner_->skip();
        (records_.empty() ? record_ : skipped_)++;
    }
    if (!records_.empty()) return size_t(records_.back().begin) + records_.back().size;
    if (!scanner_->in_record() || scanner_->skipping()) drop(scanner_->scanned());
    return 0;
}

void BlockReader::drop(size_t bytes) {
    line_ += count_newlines(std::string_view(pending_).substr(0, bytes));
    offset_ += bytes;
    scanner_->cut(bytes);
    pending_.erase(0, bytes);
}

void BlockReader::report(std::string what, size_t at) {
    const auto line = line_ + count_newlines(std::string_view(pending_).substr(0, at));
    bad_.push_back({concat(source_->name(), ":", line), std::move(what)});
}

void BlockReader::give(Block& block, size_t bytes) {
    block = {};
    block.file = source_->name();
    block.split = files_[file_].split;
    if (files_[file_].members_by_names) {
        const std::string member = source_->name().substr(files_[file_].path.string().size());
        block.split = split_named(member).value_or(SplitName::train);
    }
    block.format = format_;
    block.csv = csv_;
    block.first_line = line_;
    block.offset = offset_;
    block.records_before = record_;
    block.continues = continues_;
    block.in_line = in_line_;
    block.open = open_;
    block.records = std::exchange(records_, {});
    block.bad = std::exchange(bad_, {});
    block.size = bytes;
    block.bytes = std::move(pending_);
    pending_ = block.bytes.substr(bytes);
    block.bytes.resize(bytes);
    block.bytes.append(JsonRecords::kPadding, '\0');
    if (scanner_) scanner_->cut(bytes);
    line_ += count_newlines(block.text());
    offset_ += bytes;
    record_ += block.records.size() + std::exchange(skipped_, 0);
    continues_ = open_;
    in_line_ = open_ && block.text().back() != '\n';
    block.end = {file_, offset_, line_, continues_, in_line_, scanner_ ? scanner_->state() : 0, record_, member_};
}

uint64_t BlockReader::bytes_read() const {
    return bytes_before_ + (source_ ? source_->file_bytes() : 0);
}

uint64_t BlockReader::bytes_total() const {
    return bytes_total_;
}

}  // namespace kiln
