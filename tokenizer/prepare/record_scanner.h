#pragma once
// Finds where records begin and end in a text that arrives in parts. JsonRecords and csv_text() read the records.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/prepare/documents.h"

namespace kiln {

// The text is a buffer: bytes are added at its end and removed from its start. Each byte is scanned once.
class RecordScanner {
public:
    virtual ~RecordScanner() = default;

    // Scans to the end of `text`, or to a mistake, which ends the scan, and appends the records that end there.
    virtual void scan(std::string_view text, std::vector<Block::Span>& records) = 0;
    // `text` is complete, so its end also ends the last record. A record that is cut short is a mistake.
    virtual void finish(std::string_view text, std::vector<Block::Span>& records) = 0;
    // Removes the first `bytes` of the text. A record that begins in them must be complete or skipped.
    void cut(size_t bytes) {
        scanned_ -= bytes;
        begin_ = begin_ > bytes ? begin_ - bytes : 0;
    }
    // Leaves out the current record.
    void skip() { skipping_ = true; }
    bool skipping() const { return skipping_; }
    bool in_record() const { return in_record_; }
    size_t begin() const { return begin_; }  // of the current record
    size_t scanned() const { return scanned_; }
    // What is wrong at scanned(); empty if nothing is. The text after a mistake cannot be read.
    const std::string& mistake() const { return mistake_; }
    virtual int state() const { return 0; }  // after the last complete record; enough to resume there

protected:
    void start(size_t at) {
        begin_ = at;
        in_record_ = true;
    }
    void end(size_t at, std::vector<Block::Span>& records) {
        if (!skipping_ && at > begin_) records.push_back({uint32_t(begin_), uint32_t(at - begin_)});
        in_record_ = skipping_ = false;
    }
    size_t scanned_ = 0, begin_ = 0;
    bool in_record_ = false, skipping_ = false;
    std::string mistake_;
};

// Each line is a record, except blank lines.
class LineScanner : public RecordScanner {
public:
    void scan(std::string_view text, std::vector<Block::Span>& records) override;
    void finish(std::string_view text, std::vector<Block::Span>& records) override;
};

// The elements of an array [a, b, ...], or the objects of a sequence a b ..., found by their brackets.
class JsonScanner : public RecordScanner {
public:
    explicit JsonScanner(int state) : state_(State(state)) {}
    void scan(std::string_view text, std::vector<Block::Span>& records) override;
    void finish(std::string_view text, std::vector<Block::Span>& records) override;
    int state() const override {
        return int(state_ == State::start || state_ == State::sequence ? state_ : State::separator);
    }

private:
    enum class State { start, first, record, separator, sequence, done };
    bool between(char c);  // false: a mistake
    State state_;
    int64_t depth_ = 0;
    bool in_string_ = false, escaped_ = false;
};

// Rows of RFC 4180: a newline within quotes belongs to a field.
class CsvScanner : public RecordScanner {
public:
    explicit CsvScanner(char delimiter) : delimiter_(delimiter) {}
    void scan(std::string_view text, std::vector<Block::Span>& records) override;
    void finish(std::string_view text, std::vector<Block::Span>& records) override;

private:
    enum class State { field_start, plain, quoted, quote };
    const char delimiter_;
    State state_ = State::field_start;
};

// Gets the text of JSON records.
class JsonRecords {
public:
    JsonRecords();
    ~JsonRecords();
    // The text is valid until the next call. The record is read as Python's json module reads it. At least kPadding
    // bytes after `record` must be readable. Throws Error if the record is not JSON, or has no such text field.
    static constexpr size_t kPadding = 64;
    std::string_view text(std::string_view record, const std::vector<std::string>& text_keys);

private:
    struct Parser;
    std::unique_ptr<Parser> parser_;
    std::string text_;
};

// The text of a row. Throws Error if the number of columns is wrong, or a quote is out of place.
std::string csv_text(std::string_view row, const CsvLayout& layout);
// Reads a header. Throws Error if it has none of the keys.
CsvLayout csv_layout(std::string_view header, char delimiter, const std::vector<std::string>& text_keys);

}  // namespace kiln
