#pragma once
// The options that say what a document is, the input files, and the blocks that files are cut into for the threads.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kiln {

// A document in a file of plain text. In other formats, each record is a document.
enum class DocumentMode { file, line, paragraph };  // paragraph: lines between blank lines

enum class DocumentFormat { automatic, text, jsonl, json, csv, tsv };  // automatic: the file's name tells
const std::vector<std::string>& document_format_names();               // in the order of DocumentFormat
const std::vector<std::string>& document_extensions();                 // of all formats: ".txt", ...
DocumentFormat format_of(const std::filesystem::path& path);
// Whether a file in a searched directory or an archive is read: its extension, before .gz or .zst, is one of
// document_extensions(), and it is not hidden or written by Kiln.
bool is_text_name(const std::filesystem::path& path);
std::string lower_extension(const std::filesystem::path& path);
std::filesystem::path decompressed_name(const std::filesystem::path& path);  // without one .gz or .zst at its end
bool is_archive_name(const std::filesystem::path& path);                     // .tar, .tar.gz, .tgz, .tar.zst

// The first place from byte `from` on where all named pre-tokenizers cut. 0: none, or more of `text` is needed to tell.
size_t find_word_end(std::string_view text, size_t from);

struct DocumentOptions {
    DocumentMode mode = DocumentMode::file;
    DocumentFormat format = DocumentFormat::automatic;
    // If not empty: a line equal to this separates documents; mode is ignored. One of several bytes also separates
    // within a line and within a record; a single one, such as %, may be part of ordinary text.
    std::string separator = {};
    std::vector<std::string> text_keys = {"text"};  // the text of a record is the first of these fields or columns
    std::string encoding = "utf-8";                 // one of text_encodings()
    size_t chunk_bytes = size_t(256) << 10;         // longer documents are cut into chunks of about this size
    size_t block_bytes = size_t(2) << 20;           // a thread encodes about this much at a time
    size_t max_record_bytes = size_t(64) << 20;     // longer records are bad
    bool keep_start_of_damaged = false;             // use the records before the damage in a file; false: Error
    // Where a document may be cut: Tokenizer::find_cut of the tokenizer that encodes it.
    std::function<size_t(std::string_view text, size_t from)> find_cut = find_word_end;
};

// The split that a file's documents belong to. A part of `train` is chosen for validation if no file is named for it.
enum class SplitName { train, val, test };
// The last part of the path that has one of these words decides: train, training; val, valid, validation, dev; test.
std::optional<SplitName> split_named(const std::filesystem::path& path);

struct InputFileInfo {
    std::filesystem::path path;
    SplitName split = SplitName::train;
    bool members_by_names = false;  // an archive: split_named() decides for each of its texts
    bool pipe = false;
    uint64_t bytes = 0;
    int64_t modified_ns = 0;
};

struct InputFiles {
    std::vector<InputFileInfo> files;
    std::vector<std::string> passed_over;  // in directories that were searched, since they are not text
    bool by_names = false;                 // whether names decided about splits
    bool has_val = false;                  // whether files, or texts in archives, are for validation
};

// Every input file. An input is a file, a pipe, a pattern (* ? [] within a name, ** across directories) or a directory.
// A directory is searched recursively for is_text_name() and is_archive_name(), sorted by path, without hidden files,
// files that Kiln writes, and links to directories. With `split_names`, and if some files or texts in archives are
// named for training and others for validation or test, their names decide; below a directory or in a pattern, the
// names of directories count too. A dataset card (README.md), which describes records or named splits, is passed
// over. The files of `val_inputs` are for validation. Throws Error if an input is missing, unreadable or a device, if
// there are no files, or if a directory has data that cannot be read, and no text but its card.
InputFiles find_documents(const std::vector<std::string>& inputs, const std::vector<std::string>& val_inputs = {},
                          bool split_names = true);

// Names the first files that were passed over, if there are any.
void report_passed_over(const std::vector<std::string>& files, const std::function<void(const std::string&)>& report);

// A record, or a part of a document, that is left out.
struct BadRecord {
    std::string place;  // FILE:LINE
    std::string what;
};

// The number of bad records, and the first of them: a file may have one in every two bytes.
struct BadRecords {
    static constexpr size_t kShown = 5;
    std::vector<BadRecord> first;
    uint64_t count = 0;

    void add(BadRecord record) {
        if (count++ < kShown) first.push_back(std::move(record));
    }
};

// A position between two blocks, where a run can be resumed.
struct InputPosition {
    uint64_t file = 0;    // index in the list of files
    uint64_t offset = 0;  // in its text, after decompression and conversion
    uint64_t line = 1;
    bool continues = false;  // within a document
    bool in_line = false;    // within a line
    int json_state = 0;      // of JsonScanner
    uint64_t records = 0;    // before it in the file
    uint64_t member = 0;     // of an archive: texts before this one
};

// The number of columns in a CSV file, and the column with the text.
struct CsvLayout {
    char delimiter = ',';
    size_t columns = 0, text = 0;
};

// A part of an input file. It ends where a document ends, or where a long document may be cut.
struct Block {
    struct Span {
        uint32_t begin = 0, size = 0;
    };
    std::string bytes;  // the text, then padding that a JSON parser may read
    size_t size = 0;    // without the padding
    std::string file;
    SplitName split = SplitName::train;
    DocumentFormat format = DocumentFormat::text;
    CsvLayout csv;
    uint64_t first_line = 1;  // line number of the first byte
    uint64_t offset = 0;      // of the first byte in the file's text
    uint64_t records_before = 0;
    bool continues = false;      // starts within a document
    bool in_line = false;        // starts within a line
    bool open = false;           // one chunk of a document that continues in the next block
    std::vector<Span> records;   // empty for plain text
    std::vector<BadRecord> bad;  // records that the reader left out
    InputPosition end;           // start of the next block

    std::string_view text() const { return std::string_view(bytes).substr(0, size); }
    // FILE:LINE of a byte. For JSON, which may be all on one line, also the number of the record.
    std::string place(size_t offset) const;

private:
    // place() continues to count where it stopped: bad records come in order, and every line may have one.
    mutable size_t counted_ = 0;     // offset up to which newlines were counted
    mutable uint64_t newlines_ = 0;  // before that offset
};

// A document, or a part of a long one, to be encoded. Its text is valid UTF-8.
struct Chunk {
    std::string_view text;
    bool starts_document = false, ends_document = false;
    bool valid = true;  // false: it was reported as bad and has no text
    size_t at = 0;      // offset of it, or of its record, in the block
};

// The newlines after a document are not part of it, and find_cut gets the text without them. A longer run of newlines
// counts as text, since it might never end.
inline constexpr size_t kMaxTrailingNewlines = 1024;
// `text` without the newlines at its end, but removes at most `most` of them.
std::string_view without_newlines(std::string_view text, size_t most = SIZE_MAX);

// Tells which lines of a text separate documents.
struct LineRule {
    DocumentMode mode = DocumentMode::file;
    std::string separator;

    explicit LineRule(const DocumentOptions& options) : mode(options.mode), separator(options.separator) {}
    bool whole_file() const { return separator.empty() && mode == DocumentMode::file; }
    bool every_line() const { return separator.empty() && mode == DocumentMode::line; }
    bool within_lines() const { return separator.size() > 1; }
    // The end of the separator at `at`, with a newline that follows it.
    size_t after_separator(std::string_view text, size_t at) const;
    bool divides(std::string_view line) const;      // a whole line, with or without its newline
    bool may_divide(std::string_view start) const;  // whether a line with this start may be one
};

}  // namespace kiln
