#pragma once
// The container of GGUF, version 3: a header with keys and their values, the entries of the tensors, and their data.
// The reader checks every count, length and offset before it uses it. It keeps only the place of each value, and reads
// the value from the file when it is asked for.
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/io/file.h"
#include "tools/formats/gguf_types.h"

namespace kiln {

inline constexpr uint64_t kGgufAlignment = 32;  // of the data and of each tensor in it, in the files that Kiln writes

struct GgufTensor {
    std::string name;
    std::vector<uint64_t> shape;     // row-major: (rows, cols) or (elems); the file has it in reverse
    const GgufType* type = nullptr;  // null: a type that Kiln cannot read
    uint32_t type_id = 0;
    uint64_t offset = 0;  // from the start of the file

    uint64_t elems() const;  // does not overflow: the constructor of GgufFile checks that
    uint64_t cols() const { return shape.back(); }
};

// A file open for reading.
class GgufFile {
public:
    // Throws Error, with the file and the key or tensor, if anything before the data is wrong, or if the tensors do not
    // lie in the file one after another.
    explicit GgufFile(const std::filesystem::path& path);
    const std::filesystem::path& path() const { return path_; }

    bool has(const std::string& key) const { return values_.contains(key); }
    // The value of a key. Each function throws Error that names the key if the file lacks it, or if it has another
    // type.
    std::string string(const std::string& key) const;
    uint64_t whole(const std::string& key, uint64_t max) const;
    float real(const std::string& key) const;
    bool boolean(const std::string& key) const;
    uint64_t array_size(const std::string& key) const;
    void for_each_string(const std::string& key, const std::function<void(std::string&&)>& visit) const;
    std::vector<int> whole_array(const std::string& key) const;
    std::vector<float> real_array(const std::string& key) const;

    const std::vector<GgufTensor>& tensors() const { return tensors_; }  // in the order of the file
    const GgufTensor* find(std::string_view name) const;                 // null if there is none
    // Rows first to first + n - 1 of a tensor, n = out.size() / cols. Throws Error if its type is unknown, if a value
    // is not finite, or if the file has changed since it was opened.
    void read_rows(const GgufTensor& tensor, uint64_t first, std::span<float> out) const;

private:
    struct Value {
        uint32_t type = 0;  // of the elements, if it is an array
        bool array = false;
        uint64_t count = 1;
        uint64_t at = 0;  // in the file
    };
    class Cursor;
    const Value& value(const std::string& key, bool array) const;
    void read_entries(Cursor& cursor, uint64_t count);
    void read_tensors(Cursor& cursor, uint64_t count);
    void check_places(uint64_t data);

    std::filesystem::path path_;
    InputFile file_;
    std::map<std::string, Value> values_;
    std::vector<GgufTensor> tensors_;
    std::map<std::string_view, const GgufTensor*> by_name_;
};

// The bytes before the data of a new file.
class GgufHeader {
public:
    void string(std::string_view key, std::string_view value);
    void whole(std::string_view key, uint64_t value);  // as uint32
    void real(std::string_view key, float value);
    void boolean(std::string_view key, bool value);
    void strings(std::string_view key, std::span<const std::string> values);
    void wholes(std::string_view key, std::span<const int> values);
    void reals(std::string_view key, std::span<const float> values);
    void tensor(std::string_view name, std::span<const uint64_t> shape, const GgufType& type);

    std::string bytes() const;                           // padded to the start of the data
    uint64_t data_bytes() const { return data_bytes_; }  // of all tensors, each padded

private:
    void key(std::string_view name, uint32_t type);
    void array(std::string_view name, uint32_t type, uint64_t count);

    std::string values_, tensors_;
    uint64_t keys_ = 0, num_tensors_ = 0, data_bytes_ = 0;
};

inline uint64_t gguf_padded(uint64_t bytes, uint64_t alignment = kGgufAlignment) {
    return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace kiln
