#pragma once
// What is a document: the options, the input files, and the blocks that files are cut into on their way to the threads.
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

// What one document is in a file of plain text. In the other formats it is one record, whatever this says.
enum class DocumentMode { file, line, paragraph };  // paragraph: lines between blank lines

enum class DocumentFormat { automatic, text, jsonl, json, csv, tsv };  // automatic: by the file's name
const std::vector<std::string>& document_format_names();               // in the order of the enumeration
DocumentFormat format_of(const std::filesystem::path& path);           // .gz and .zst are looked through

struct DocumentOptions {
    DocumentMode mode = DocumentMode::file;
    DocumentFormat format = DocumentFormat::automatic;
    std::string separator = {};  // not empty: documents stand between lines that are exactly this; mode is ignored
    std::vector<std::string> text_keys = {"text"};  // fields or columns: the first that a record has is its text
    std::string encoding = "utf-8";                 // one of text_encodings()
    size_t piece_bytes = size_t(256) << 10;         // a longer document is cut
    size_t block_bytes = size_t(2) << 20;           // what a thread takes at a time, about
    size_t max_record_bytes = size_t(64) << 20;     // a longer record is a bad one
    bool keep_start_of_damaged = false;             // what comes before the damage in a file; else that is an error
};

struct InputFileInfo {
    std::filesystem::path path;
    bool pipe = false;
    uint64_t bytes = 0;
    int64_t modified_ns = 0;
};

// Every input file: the files and pipes named, those that a pattern matches (* ? [] within a name, ** across
// directories), and those of the directories named (recursively, sorted by path: .txt .text .md .jsonl .ndjson .json
// .csv .tsv, also with .gz or .zst; hidden files and the files Kiln writes are passed over, links to directories not
// followed). Throws Error if one is missing, unreadable or a device, or nothing is there.
std::vector<InputFileInfo> find_documents(const std::vector<std::string>& inputs);

// "1 document", "2 documents".
std::string counted(uint64_t count, const char* noun);

inline constexpr char kEncodingHint[] = "say what it is with --encoding (latin-1, gb18030, ...), or convert the file";

// A record that was left out, or a part of a document.
struct BadRecord {
    std::string place;  // FILE:LINE
    std::string what;
};

// Where a run can go on: between two blocks.
struct InputPosition {
    uint64_t file = 0;    // in the list of files
    uint64_t offset = 0;  // in its text, unpacked and converted
    uint64_t line = 1;
    bool continues = false;  // in the middle of a document ...
    bool in_line = false;    // ... and of a line
    int json_state = 0;      // of JsonScanner
    uint64_t records = 0;    // before it, in the file
};

// The columns of a CSV file that matter.
struct CsvLayout {
    char delimiter = ',';
    size_t columns = 0, text = 0;
};

// A stretch of an input file, cut where documents end, or else where a long document may be cut.
struct Block {
    struct Span {
        uint32_t begin = 0, size = 0;
    };
    std::string bytes;  // `size` of them, then padding that a JSON parser may read
    size_t size = 0;
    std::string file;
    DocumentFormat format = DocumentFormat::text;
    CsvLayout csv;
    uint64_t first_line = 1;  // of bytes, and ...
    uint64_t offset = 0;      // ... where they stand in the file's text, for messages
    uint64_t records_before = 0;
    bool continues = false;      // begins within a document
    bool in_line = false;        // ... and within a line
    bool open = false;           // one piece of a document that goes on in the next block
    std::vector<Span> records;   // in formats of records
    std::vector<BadRecord> bad;  // that the reader could not even cut out
    InputPosition end;           // where the next block begins

    std::string_view text() const { return std::string_view(bytes).substr(0, size); }
    // FILE:LINE of a byte. Of JSON, where all may stand on one line, with the number of its record.
    std::string place(size_t offset) const;

private:
    mutable size_t counted_ = 0;     // to here place() has counted, and found ...
    mutable uint64_t newlines_ = 0;  // ... so many: bad records come in order, and there may be one in every line
};

// A document, or a part of one, to be tokenized. Valid UTF-8.
struct Piece {
    std::string_view text;
    bool starts_document = false, ends_document = false;
    bool valid = true;  // false: it has been reported as bad and has no text
    size_t at = 0;      // where it, or its record, begins in the block
};

// Where the document's next piece ends, if it has one that is not its last; 0 if not, or if that cannot be known until
// more of `text` is there. A cut is where a byte-level tokenizer cuts anyway (after a newline between two visible
// characters, else before a space between two letters), so the tokens are those of the uncut document; only a run of
// more than four times piece_bytes without such a place is cut elsewhere. The choice depends on the document alone,
// not on how much of it is there: more text never changes an answer that is not 0.
size_t find_cut(std::string_view text, size_t piece_bytes);

// The newlines behind a document are no part of it. find_cut() is asked without them, but for a run of more than this:
// it could go on for ever.
inline constexpr size_t kNewlinesAside = 1024;
// `text` without the newlines at its end, or at most so many of them.
std::string_view without_newlines(std::string_view text, size_t most = SIZE_MAX);

// How the lines of a text that are no document's divide it.
struct LineRule {
    DocumentMode mode = DocumentMode::file;
    std::string separator;

    explicit LineRule(const DocumentOptions& options) : mode(options.mode), separator(options.separator) {}
    bool whole_file() const { return separator.empty() && mode == DocumentMode::file; }
    bool every_line() const { return separator.empty() && mode == DocumentMode::line; }
    bool divides(std::string_view line) const;      // a whole line, with its newline if it has one
    bool may_divide(std::string_view start) const;  // could the line that starts so?
};

}  // namespace kiln
