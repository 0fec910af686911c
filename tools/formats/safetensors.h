#pragma once
// The safetensors format: the length of a JSON header as u64, the header, the bytes of the tensors. Reads and writes
// float32, float16 and bfloat16. The reader checks everything in the header before it uses it.
#include <cfloat>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/io/file.h"

namespace kiln {

inline uint64_t elems_of(std::span<const uint64_t> shape) {
    uint64_t n = 1;
    for (const uint64_t extent : shape) n *= extent;
    return n;
}

// One tensor of a file, as its header declares it.
struct StoredTensor {
    std::string name;
    std::string dtype;                                  // "F32", "F16", "BF16", ... any type the format knows
    std::vector<uint64_t> shape;                        // empty: a scalar
    uint64_t begin = 0, end = 0;                        // bytes from the start of the data
    uint64_t elems() const { return elems_of(shape); }  // does not overflow: the file's constructor checks that
};

// "(2, 3)".
std::string shape_text(std::span<const uint64_t> shape);

// A file open for reading. The constructor throws Error, with the file and the tensor, if the header is not valid, a
// type is unknown, a shape does not fit its bytes, or the tensors do not cover the data exactly once.
class SafetensorsFile {
public:
    explicit SafetensorsFile(const std::filesystem::path& path);
    const std::filesystem::path& path() const { return path_; }
    const std::vector<StoredTensor>& tensors() const { return tensors_; }  // sorted by name
    const StoredTensor* find(std::string_view name) const;                 // null if there is none
    // Elements first to first + out.size() - 1 as float32. Throws Error if the type is not F32, F16 or BF16, or if the
    // file has changed since it was opened.
    void read(const StoredTensor& tensor, uint64_t first, std::span<float> out) const;
    // Throws Error also if one of them is infinite, NaN or below `min`, from which nothing can be computed.
    void read_finite(const StoredTensor& tensor, uint64_t first, std::span<float> out, float min = -FLT_MAX) const;
    void verify_finite(const StoredTensor& tensor, float min = -FLT_MAX) const;  // all of it

private:
    std::filesystem::path path_;
    InputFile file_;
    uint64_t data_ = 0;  // where the bytes of the tensors begin
    std::vector<StoredTensor> tensors_;
};

// Of a whole file, as it was meant to be written.
struct FileDigest {
    uint64_t bytes = 0, xxh3 = 0;
};

// Writes tensors in the given order. It keeps no values in memory. What read_finite() would refuse, it refuses.
class SafetensorsWriter {
public:
    struct Declared {
        std::string name;
        std::vector<uint64_t> shape;
        float least = -FLT_MAX;     // no value may be below
        std::string dtype = "F32";  // or "F16" or "BF16", to which values are rounded: to the nearest, ties to even
    };
    // Creates the file and writes its header. Throws on a repeated name.
    SafetensorsWriter(const std::filesystem::path& path, const std::vector<Declared>& tensors);
    // The next values, of one or more tensors. Throws Error that names the tensor if one is infinite, NaN, too low, or
    // beyond the range of the tensor's type.
    void append(std::span<const float> values);
    FileDigest finish();  // syncs and closes the file; throws if values are missing

private:
    void write(const void* data, size_t bytes);
    void write_as(const Declared& tensor, std::span<const float> values);

    OutputFile file_;
    Xxh3 hash_;
    uint64_t bytes_ = 0, values_left_ = 0;
    std::vector<uint16_t> narrow_;
    std::vector<Declared> tensors_;
    size_t tensor_ = 0;          // the one that is being written
    uint64_t tensor_elems_ = 0;  // written of it
};

// The tensors of a model directory: model.safetensors, or the files that model.safetensors.index.json names.
class ModelTensors {
public:
    explicit ModelTensors(const std::filesystem::path& directory);
    struct Found {
        const SafetensorsFile* file = nullptr;
        const StoredTensor* tensor = nullptr;
        explicit operator bool() const { return tensor != nullptr; }
    };
    Found find(std::string_view name) const;
    std::vector<std::string> names() const;  // sorted
    // For messages: the only file, or the index.
    const std::filesystem::path& path() const { return path_; }

private:
    std::filesystem::path path_;
    std::vector<SafetensorsFile> files_;
    std::map<std::string, size_t, std::less<>> file_of_;  // name -> index in files_
};

float half_to_float(uint16_t bits);      // IEEE binary16
float bfloat16_to_float(uint16_t bits);  // the upper half of a float32
// The nearest number of the type, of two the even one; infinite beyond its range. `x` is no NaN.
uint16_t float_to_half(float x);
uint16_t float_to_bfloat16(float x);

}  // namespace kiln
