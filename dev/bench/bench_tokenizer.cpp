// Times Tokenizer::encode on the documents of a file in memory. dev/bench/bench_tokenizer.py compares it with other
// programs.
//     bench_tokenizer TOKENIZER FILE BYTES THREADS
// Reads the first BYTES of the file, up to a newline. A document ends at the first newline after 10,000 bytes. Prints
// one line of JSON.
#include <atomic>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "dev/bench/support/documents.h"
#include "tokenizer/tokenizer.h"

int main(int argc, char** argv) try {
    if (argc != 5) {
        std::fprintf(stderr, "usage: bench_tokenizer TOKENIZER FILE BYTES THREADS\n");
        return 2;
    }
    const kiln::Tokenizer tokenizer = kiln::Tokenizer::load(argv[1]);
    const std::string text = kiln::bench::read_lines(argv[2], std::stoull(argv[3]));
    const std::vector<std::string_view> documents = kiln::bench::cut(text);
    const int threads = std::stoi(argv[4]);
    std::atomic<size_t> next = 0, tokens = 0;
    const double start = kiln::bench::seconds();
    std::vector<std::thread> workers;
    for (int i = 0; i < threads; ++i) {
        workers.emplace_back([&] {
            for (size_t document; (document = next++) < documents.size();) {
                tokens += tokenizer.encode(documents[document]).size();
            }
        });
    }
    for (std::thread& worker : workers) worker.join();
    std::printf("{\"bytes\": %zu, \"tokens\": %zu, \"seconds\": %.6f}\n", text.size(), tokens.load(),
                kiln::bench::seconds() - start);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench_tokenizer: %s\n", error.what());
    return 1;
}
