#pragma once
// Reads tests/fixtures/tokenizer, which dev/fixtures/make_tokenizer_fixtures.py made with Hugging Face's tokenizers.
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/io/sha256.h"

namespace kiln {

inline std::filesystem::path tokenizer_fixture(const std::string& name) {
    return "tests/fixtures/tokenizer/" + name;
}

inline std::string slurp(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open " + path.string() + "; tests run from the repository's root");
    return std::string(std::istreambuf_iterator<char>(file), {});
}

inline std::vector<nlohmann::json> fixture_lines(const std::string& name) {
    std::ifstream file(tokenizer_fixture(name));
    if (!file) throw std::runtime_error("cannot open fixture " + name + "; tests run from the repository's root");
    std::vector<nlohmann::json> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
}

inline std::string fixture_hash(const std::string& key) {
    return nlohmann::json::parse(slurp(tokenizer_fixture("hashes.json"))).at(key);
}

class Fnv1a {
public:
    void add(std::string_view bytes) {
        for (const unsigned char c : bytes) value_ = (value_ ^ c) * 0x100000001B3u;
    }
    std::string hex() const { return kiln::hex(value_); }

private:
    uint64_t value_ = 0xCBF29CE484222325u;
};

// Random bytes, which are mostly not UTF-8.
template <class Random>
std::string random_bytes(Random& random, size_t n) {
    std::string bytes(n, '\0');
    for (char& c : bytes) c = static_cast<char>(random() >> 7);
    return bytes;
}

}  // namespace kiln
