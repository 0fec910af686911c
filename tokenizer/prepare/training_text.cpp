#include "tokenizer/prepare/training_text.h"

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/byte_source.h"
#include "tokenizer/io/file.h"
#include "tokenizer/prepare/block_parser.h"
#include "tokenizer/prepare/block_reader.h"

namespace kiln {
namespace {

constexpr uint64_t kShownBadRecords = 5;

bool is_plain(const InputFileInfo& file, const DocumentOptions& options) {
    const DocumentFormat format = options.format == DocumentFormat::automatic ? format_of(file.path) : options.format;
    return !file.pipe && format == DocumentFormat::text && ByteSource(file.path, options.encoding).is_plain();
}

// ByteSource has looked at the first bytes of the file only, so the rest is searched for NUL.
void check_no_nul(const std::filesystem::path& path) {
    constexpr size_t kPart = size_t(64) << 20;
    const MappedFile file(path);
    for (size_t at = 0; at < file.text().size(); at += kPart) {
        const std::string_view part = file.text().substr(at, kPart);
        const size_t nul = part.find('\0');
        KILN_CHECK(nul == std::string_view::npos, path.string(), ": is not text: byte ", at + nul, " is NUL");
        file.release(at, part.size());
    }
}

}  // namespace

void read_training_text(const std::vector<InputFileInfo>& files, const DocumentOptions& options,
                        const TrainingText& text) {
    BlockParser parser(options);
    uint64_t good = 0, bad = 0;
    std::string first;
    for (const InputFileInfo& file : files) {
        if (file.split != SplitName::train) continue;
        if (is_plain(file, options)) {
            check_no_nul(file.path);
            text.on_file(file.path);
            continue;
        }
        BlockReader reader({file}, options);
        std::vector<BadRecord> left_out;
        for (Block block; reader.next(block);) {
            if (block.split != SplitName::train) continue;
            const auto on_chunk = [&](const Chunk& chunk) {
                if (!chunk.valid) return;
                good++;
                text.on_text(chunk.text, block.file);
            };
            parser.parse(block, on_chunk, left_out);
            for (const BadRecord& record : left_out) {
                const std::string what = concat(record.place, ": ", record.what);
                if (bad == 0) first = what;
                if (bad++ < kShownBadRecords) text.report(what + " (left out)");
            }
            left_out.clear();
        }
        report_passed_over(reader.passed_over(), text.report);
    }
    if (bad == 0) return;
    KILN_CHECK(bad <= good, bad, " of ", good + bad, " parts of the text are bad; the first: ", first);
    text.report(concat("bad records left out: ", bad));
}

}  // namespace kiln
