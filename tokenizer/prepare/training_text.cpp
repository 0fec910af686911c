#include "tokenizer/prepare/training_text.h"

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/byte_source.h"
#include "tokenizer/io/file.h"
#include "tokenizer/prepare/block_parser.h"
#include "tokenizer/prepare/block_reader.h"

namespace kiln {
namespace {

bool is_plain(const InputFileInfo& file, const DocumentOptions& options) {
    const DocumentFormat format = options.format == DocumentFormat::automatic ? format_of(file.path) : options.format;
    return !file.pipe && format == DocumentFormat::text && ByteSource(file.path, options.encoding).is_plain();
}

// ByteSource has looked at the first bytes of the file only, so the rest is searched for NUL.
void check_no_nul(const std::filesystem::path& path) {
    InputFile file(path);
    std::string buffer(size_t(1) << 20, ' ');
    uint64_t at = 0;
    for (size_t n; (n = file.read(buffer.data(), buffer.size())) > 0; at += n) {
        const size_t nul = std::string_view(buffer).substr(0, n).find('\0');
        KILN_CHECK(nul == std::string_view::npos, path.string(), ": is not text: byte ", at + nul, " is NUL");
    }
}

}  // namespace

void read_training_text(const std::vector<InputFileInfo>& files, const DocumentOptions& options,
                        const TrainingText& text) {
    BlockParser parser(options);
    uint64_t good = 0, bad = 0, shown = 0;
    std::string first;
    for (const InputFileInfo& file : files) {
        if (file.split != SplitName::train) continue;
        if (is_plain(file, options)) {
            check_no_nul(file.path);
            text.on_file(file.path);
            continue;
        }
        BlockReader reader({file}, options);
        for (Block block; reader.next(block);) {
            if (block.split != SplitName::train) continue;
            const auto on_chunk = [&](const Chunk& chunk) {
                if (!chunk.valid) return;
                good++;
                text.on_text(chunk.text, block.file);
            };
            BadRecords left_out;
            parser.parse(block, on_chunk, left_out);
            for (const BadRecord& record : left_out.first) {
                const std::string what = concat(record.place, ": ", record.what);
                if (first.empty()) first = what;
                if (shown++ < BadRecords::kShown) text.report(what + " (left out)");
            }
            bad += left_out.count;
        }
        report_passed_over(reader.passed_over(), text.report);
    }
    if (bad == 0) return;
    KILN_CHECK(bad <= good, bad, " of ", good + bad, " parts of the text are bad; the first: ", first);
    text.report(concat("bad records left out: ", bad));
}

}  // namespace kiln
