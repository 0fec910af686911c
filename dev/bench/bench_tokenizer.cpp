// Times Tokenizer::encode over the documents of a file, held in memory. dev/bench/bench_tokenizer.py runs it beside
// other programs.
//     bench_tokenizer TOKENIZER FILE BYTES THREADS
// Takes the first BYTES of the file, to a newline. A document ends at the first newline after 10,000 bytes. Prints one
// line of JSON.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "cpu_reference/error.h"
#include "tokenizer/file.h"
#include "tokenizer/tokenizer.h"

namespace {

constexpr size_t kDocumentBytes = 10000;

std::vector<std::string_view> cut(std::string_view text) {
    std::vector<std::string_view> documents;
    while (!text.empty()) {
        const size_t newline = text.find('\n', std::min(kDocumentBytes, text.size()));
        const size_t end = newline == text.npos ? text.size() : newline + 1;
        documents.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
    return documents;
}

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc != 5) {
        std::fprintf(stderr, "usage: bench_tokenizer TOKENIZER FILE BYTES THREADS\n");
        return 2;
    }
    const kiln::Tokenizer tokenizer = kiln::Tokenizer::load(argv[1]);
    std::string text = kiln::read_file(argv[2]).substr(0, std::stoull(argv[3]));
    if (const size_t newline = text.rfind('\n'); newline != text.npos) text.resize(newline + 1);
    const std::vector<std::string_view> documents = cut(text);
    const int threads = std::stoi(argv[4]);
    std::atomic<size_t> next = 0, tokens = 0;
    const double start = seconds();
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
                seconds() - start);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "bench_tokenizer: %s\n", error.what());
    return 1;
}
