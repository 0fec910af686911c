#pragma once
// Finds where records begin and end in a text that comes bit by bit, and no more: what is in them is for others.
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/prepare/documents.h"

namespace kiln {

// The text is a buffer that grows at its end and is cut off at its front; each byte is looked at once.
class RecordScanner {
public:
    virtual ~RecordScanner() = default;

    // Goes on to the end of `text`, adding the records that end in it, or until a mistake stops it for good.
    virtual void scan(std::string_view text, std::vector<Block::Span>& records) = 0;
    // `text` is all there is: the last record may end without a sign. A mistake if one is cut short.
    virtual void finish(std::string_view text, std::vector<Block::Span>& records) = 0;
    // The first `bytes` of the text go. A record that begins in them must be skipped or complete.
    void cut(size_t bytes) {
        scanned_ -= bytes;
        begin_ = begin_ > bytes ? begin_ - bytes : 0;
    }
    // The record that has begun is to be left out.
    void skip() { skipping_ = true; }
    bool skipping() const { return skipping_; }
    bool in_record() const { return in_record_; }
    size_t begin() const { return begin_; }  // of the record that has begun
    size_t scanned() const { return scanned_; }
    // What is wrong at scanned(), if anything: nothing after it can be understood.
    const std::string& mistake() const { return mistake_; }
    virtual int state() const { return 0; }  // behind the last record that ended: enough to go on there

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

// One record a line; blank lines are none.
class LineScanner : public RecordScanner {
public:
    void scan(std::string_view text, std::vector<Block::Span>& records) override;
    void finish(std::string_view text, std::vector<Block::Span>& records) override;
};

// The elements of [a, b, ...] or the objects of a plain sequence a b ..., by their brackets.
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

// Rows of RFC 4180: newlines between quotes belong to a field.
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

// What JSON and CSV records hold. `where` (file and line) stands in messages.
class JsonRecords {
public:
    JsonRecords();
    ~JsonRecords();
    // The text, valid until the next call. At least kPadding bytes behind `record` must be readable. Throws Error: no
    // JSON, no such field, no text in it.
    static constexpr size_t kPadding = 64;
    std::string_view text(std::string_view record, const std::vector<std::string>& text_keys);

private:
    struct Parser;
    std::unique_ptr<Parser> parser_;
    std::string text_;
};

// The fields of a row without its newline. Throws Error if a quote is out of place.
std::vector<std::string> csv_fields(std::string_view row, char delimiter);
// The text of a row. Throws Error: another number of columns, a quote out of place.
std::string csv_text(std::string_view row, const CsvLayout& layout);
// What a header means. Throws Error if it has none of the keys.
CsvLayout csv_layout(std::string_view header, char delimiter, const std::vector<std::string>& text_keys);

}  // namespace kiln
