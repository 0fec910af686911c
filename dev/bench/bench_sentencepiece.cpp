// Times Kiln's encoder of a SentencePiece model and the library's, interleaved on one thread.
//     bench_sentencepiece NAME.model FILE BYTES ROUNDS
// Reads the first BYTES of the file, up to a newline. A document ends at the first newline after 10,000 bytes. Prints
// one line of JSON with the seconds of each round.
#include <sentencepiece_processor.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "dev/bench/support/documents.h"
#include "tokenizer/io/file.h"
#include "tokenizer/tokenizer.h"

namespace {

std::string json(const std::vector<double>& seconds) {
    std::string text;
    for (const double value : seconds) text += (text.empty() ? "" : ", ") + std::to_string(value);
    return "[" + text + "]";
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) {
        std::fprintf(stderr, "usage: bench_sentencepiece NAME.model FILE BYTES ROUNDS\n");
        return 2;
    }
    const kiln::Tokenizer tokenizer = kiln::Tokenizer::load(argv[1]);
    sentencepiece::SentencePieceProcessor library;
    KILN_CHECK(library.Load(argv[1]).ok(), argv[1], ": the library cannot load it");
    const std::string text = kiln::bench::read_lines(argv[2], std::stoull(argv[3]));
    const std::vector<std::string_view> documents = kiln::bench::cut(text);
    std::vector<double> kiln_seconds, library_seconds;
    size_t tokens = 0;
    const auto timed = [&](std::vector<double>& seconds, auto&& encode) {
        const double start = kiln::bench::seconds();
        size_t count = 0;
        for (const std::string_view document : documents) count += encode(document);
        seconds.push_back(kiln::bench::seconds() - start);
        KILN_CHECK(tokens == 0 || tokens == count, "the two disagree: ", tokens, " and ", count, " tokens");
        tokens = count;
    };
    for (int round = 0; round < std::stoi(argv[4]); ++round) {
        timed(kiln_seconds, [&](std::string_view document) { return tokenizer.encode(document).size(); });
        timed(library_seconds, [&](std::string_view document) {
            std::vector<int> ids;
            KILN_CHECK(library.Encode(document, &ids).ok(), "the library cannot encode a document");
            return ids.size();
        });
    }
    std::printf("{\"bytes\": %zu, \"tokens\": %zu, \"kiln\": %s, \"library\": %s}\n", text.size(), tokens,
                json(kiln_seconds).c_str(), json(library_seconds).c_str());
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench_sentencepiece: %s\n", error.what());
    return 1;
}
