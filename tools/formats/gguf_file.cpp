#include "tools/formats/gguf_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "cpu_reference/interface/error.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint64_t kMaxEntries = 1 << 16;  // of keys, and of tensors: many times those of the largest models
constexpr uint64_t kMaxKeyBytes = 65535, kMaxTensorNameBytes = 63;  // the format's own limits
constexpr uint64_t kMaxDimensions = 4;
constexpr uint64_t kChunkBytes = 1 << 20;  // of a tensor's bytes in memory at a time

enum Type : uint32_t {
    kUint8,
    kInt8,
    kUint16,
    kInt16,
    kUint32,
    kInt32,
    kFloat32,
    kBool,
    kString,
    kArray,
    kUint64,
    kInt64,
    kFloat64,
    kTypes
};
constexpr const char* kTypeNames[] = {"uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                      "bool",  "string", "array",  "uint64", "int64",  "float64"};
constexpr uint64_t kTypeBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

template <class T>
void append(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void append_string(std::string& out, std::string_view text) {
    append<uint64_t>(out, text.size());
    out += text;
}

}  // namespace

// Reads numbers and strings from a place on, in pieces of a buffer.
class GgufFile::Cursor {
public:
    Cursor(const GgufFile& file, uint64_t at, std::string what) : file_(file), at_(at), what_(std::move(what)) {}
    uint64_t at() const { return at_; }
    uint64_t left() const { return file_.file_.size() - at_; }
    void name(std::string what) { what_ = std::move(what); }  // of what is read, for messages

    template <class T>
    T number() {
        T value;
        take(&value, sizeof(value));
        return value;
    }
    std::string string(uint64_t max_bytes) {
        const auto bytes = number<uint64_t>();
        check(bytes <= std::min(left(), max_bytes), "has a text of ", bytes, " bytes, but ",
              std::min(left(), max_bytes), " are possible");
        std::string text(bytes, '\0');
        take(text.data(), bytes);
        return text;
    }
    void skip(uint64_t bytes) {
        check(bytes <= left(), "needs ", bytes, " bytes, but ", left(), " are left");
        at_ += bytes;
    }
    void skip(uint64_t count, uint64_t each) {
        check(count <= left() / each, "has ", count, " elements, but ", left(), " bytes are left");
        skip(count * each);
    }
    template <class... Parts>
    void check(bool good, const Parts&... parts) const {
        KILN_CHECK(good, file_.path_.string(), ": ", what_, " ", parts..., "; the file is truncated or damaged");
    }

private:
    void take(void* out, uint64_t bytes) {
        check(bytes <= left(), "needs ", bytes, " bytes, but ", left(), " are left");
        if (bytes > buffer_.size()) {
            file_.file_.read_at(at_, out, bytes);
        } else if (bytes > 0) {
            if (at_ < buffered_ || at_ + bytes > buffered_ + filled_) {
                buffered_ = at_, filled_ = std::min<uint64_t>(left(), buffer_.size());
                file_.file_.read_at(at_, buffer_.data(), filled_);
            }
            std::memcpy(out, buffer_.data() + (at_ - buffered_), bytes);
        }
        at_ += bytes;
    }

    const GgufFile& file_;
    uint64_t at_;
    std::string what_;
    std::array<char, 4096> buffer_;
    uint64_t buffered_ = 0, filled_ = 0;  // the part of the file in the buffer
};

uint64_t GgufTensor::elems() const {
    return elems_of(shape);
}

GgufFile::GgufFile(const std::filesystem::path& path) : path_(path), file_(path) {
    Cursor cursor(*this, 0, "the header");
    const std::string where = path.string();
    KILN_CHECK(file_.size() >= 4 && cursor.number<uint32_t>() == 0x46554747, where,
               ": does not begin with \"GGUF\"; it is not a GGUF file");
    const auto version = cursor.number<uint32_t>();
    KILN_CHECK(version == kVersion, where, ": is GGUF of version ", version, "; Kiln reads version ", kVersion,
               ", so write the file again with a program of today");
    const auto tensors = cursor.number<uint64_t>(), keys = cursor.number<uint64_t>();
    cursor.check(keys <= kMaxEntries, "claims ", keys, " keys");
    cursor.check(tensors <= kMaxEntries, "claims ", tensors, " tensors");
    read_entries(cursor, keys);
    read_tensors(cursor, tensors);
    check_places(cursor.at());
}

void GgufFile::read_entries(Cursor& cursor, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        cursor.name(concat("key ", i));
        const std::string key = cursor.string(kMaxKeyBytes);
        cursor.name(concat("the key '", key, "'"));
        cursor.check(!key.empty(), "has no name");
        Value value;
        value.type = cursor.number<uint32_t>();
        value.array = value.type == kArray;
        if (value.array) value.type = cursor.number<uint32_t>(), value.count = cursor.number<uint64_t>();
        cursor.check(value.type < kTypes, "has the unknown type ", value.type);
        cursor.check(value.type != kArray, "holds arrays of arrays, which no model has");
        value.at = cursor.at();
        if (value.type == kString) {
            cursor.check(value.count <= cursor.left() / sizeof(uint64_t), "has ", value.count, " texts, but ",
                         cursor.left(), " bytes are left");
            for (uint64_t n = 0; n < value.count; n++) cursor.skip(cursor.number<uint64_t>());
        } else {
            cursor.skip(value.count, kTypeBytes[value.type]);
        }
        cursor.check(values_.emplace(key, value).second, "occurs twice");
    }
}

void GgufFile::read_tensors(Cursor& cursor, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        cursor.name(concat("tensor ", i));
        GgufTensor tensor;
        tensor.name = cursor.string(kMaxTensorNameBytes);
        cursor.name(concat("tensor '", tensor.name, "'"));
        cursor.check(!tensor.name.empty(), "has no name");
        const auto dimensions = cursor.number<uint32_t>();
        cursor.check(dimensions >= 1 && dimensions <= kMaxDimensions, "has ", dimensions, " dimensions");
        tensor.shape.resize(dimensions);
        uint64_t elems = 1;
        for (size_t d = dimensions; d-- > 0;) {
            tensor.shape[d] = cursor.number<uint64_t>();
            // No type has fewer than one bit for an element.
            cursor.check(tensor.shape[d] > 0 && tensor.shape[d] <= file_.size() * 8 / elems, "has a dimension of ",
                         tensor.shape[d], ", which a file of ", file_.size(), " bytes cannot hold");
            elems *= tensor.shape[d];
        }
        tensor.type_id = cursor.number<uint32_t>();
        tensor.type = find_gguf_type(tensor.type_id);
        tensor.offset = cursor.number<uint64_t>();
        tensors_.push_back(std::move(tensor));
    }
    for (const GgufTensor& tensor : tensors_) {
        cursor.name(concat("tensor '", tensor.name, "'"));
        cursor.check(by_name_.emplace(tensor.name, &tensor).second, "occurs twice");
    }
}

// The data begins at the next multiple of the alignment after `header`.
void GgufFile::check_places(uint64_t header) {
    const std::string key = "general.alignment", where = path_.string();
    const uint64_t alignment = has(key) ? whole(key, UINT32_MAX) : kGgufAlignment;
    KILN_CHECK(alignment > 0 && (alignment & (alignment - 1)) == 0, where, ": ", key, " is ", alignment,
               "; it must be a power of two");
    const uint64_t data = gguf_padded(header, alignment);
    uint64_t next = 0;  // what the offset of a tensor must be; 0, too, after one whose size is not known
    bool known = true;
    for (GgufTensor& tensor : tensors_) {
        const auto check = [&](bool good, const auto&... parts) {
            KILN_CHECK(good, where, ": tensor '", tensor.name, "' ", parts..., "; the file is truncated or damaged");
        };
        check(tensor.offset % alignment == 0, "begins at byte ", tensor.offset,
              " of the data, which is no multiple of ", alignment);
        check(known ? tensor.offset == next : tensor.offset >= next, "begins at byte ", tensor.offset,
              " of the data; the one before it ends at byte ", next);
        const uint64_t room = data <= file_.size() ? file_.size() - data : 0;
        uint64_t bytes = 0;
        if (tensor.type) {
            check(tensor.type->fits(tensor.cols()), "has rows of ", tensor.cols(), " elements; blocks of ",
                  tensor.type->name, " have ", tensor.type->elems);
            bytes = tensor.elems() / tensor.type->elems * tensor.type->bytes;
        }
        check(tensor.offset <= room && bytes <= room - tensor.offset, "ends at byte ", bytes, " after its offset ",
              tensor.offset, ", but the data has ", room, " bytes");
        next = gguf_padded(tensor.offset + bytes, alignment);
        known = tensor.type != nullptr;
        tensor.offset += data;
    }
}

const GgufFile::Value& GgufFile::value(const std::string& key, bool array) const {
    const auto found = values_.find(key);
    KILN_CHECK(found != values_.end(), path_.string(), ": has no key '", key,
               "', which a model of this kind needs; convert the model again");
    KILN_CHECK(found->second.array == array, path_.string(), ": the key '", key, "' is ", array ? "no" : "an",
               " array");
    return found->second;
}

namespace {

[[noreturn]] void refuse_type(const std::filesystem::path& path, const std::string& key, uint32_t type,
                              const char* wanted) {
    throw Error(concat(path.string(), ": the key '", key, "' is of type ", kTypeNames[type], "; expected ", wanted));
}

// Calls visit(T()) with the C++ type of a numeric type; false: it is none.
template <class Visit>
bool visit_whole(uint32_t type, Visit visit) {
    switch (type) {
        case kUint8: return visit(uint8_t()), true;
        case kInt8: return visit(int8_t()), true;
        case kUint16: return visit(uint16_t()), true;
        case kInt16: return visit(int16_t()), true;
        case kUint32: return visit(uint32_t()), true;
        case kInt32: return visit(int32_t()), true;
        case kUint64: return visit(uint64_t()), true;
        case kInt64: return visit(int64_t()), true;
        default: return false;
    }
}

}  // namespace

std::string GgufFile::string(const std::string& key) const {
    const Value& found = value(key, false);
    if (found.type != kString) refuse_type(path_, key, found.type, "a string");
    return Cursor(*this, found.at, key).string(file_.size());
}

uint64_t GgufFile::whole(const std::string& key, uint64_t max) const {
    const Value& found = value(key, false);
    uint64_t result = 0;
    Cursor cursor(*this, found.at, key);
    const bool is_whole = visit_whole(found.type, [&](auto type) {
        const auto number = cursor.number<decltype(type)>();
        KILN_CHECK(std::in_range<uint64_t>(number) && uint64_t(number) <= max, path_.string(), ": the key '", key,
                   "' is ", +number, "; expected 0 to ", max);
        result = uint64_t(number);
    });
    if (!is_whole) refuse_type(path_, key, found.type, "a whole number");
    return result;
}

float GgufFile::real(const std::string& key) const {
    const Value& found = value(key, false);
    if (found.type != kFloat32) refuse_type(path_, key, found.type, "float32");
    const float number = Cursor(*this, found.at, key).number<float>();
    KILN_CHECK(std::isfinite(number), path_.string(), ": the key '", key, "' is ", number, ", not a number");
    return number;
}

bool GgufFile::boolean(const std::string& key) const {
    const Value& found = value(key, false);
    if (found.type != kBool) refuse_type(path_, key, found.type, "bool");
    return Cursor(*this, found.at, key).number<uint8_t>() != 0;
}

uint64_t GgufFile::array_size(const std::string& key) const {
    return value(key, true).count;
}

void GgufFile::for_each_string(const std::string& key, const std::function<void(std::string&&)>& visit) const {
    const Value& found = value(key, true);
    if (found.type != kString) refuse_type(path_, key, found.type, "an array of strings");
    Cursor cursor(*this, found.at, key);
    for (uint64_t i = 0; i < found.count; i++) visit(cursor.string(file_.size()));
}

std::vector<int> GgufFile::whole_array(const std::string& key) const {
    const Value& found = value(key, true);
    if (found.type != kInt32 && found.type != kUint32) refuse_type(path_, key, found.type, "an array of int32");
    std::vector<int> numbers(found.count);
    if (!numbers.empty()) file_.read_at(found.at, numbers.data(), numbers.size() * sizeof(int));
    return numbers;
}

std::vector<float> GgufFile::real_array(const std::string& key) const {
    const Value& found = value(key, true);
    if (found.type != kFloat32) refuse_type(path_, key, found.type, "an array of float32");
    std::vector<float> numbers(found.count);
    if (!numbers.empty()) file_.read_at(found.at, numbers.data(), numbers.size() * sizeof(float));
    return numbers;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : found->second;
}

void GgufFile::read_rows(const GgufTensor& tensor, uint64_t first, std::span<float> out) const {
    KILN_CHECK(tensor.type, path_.string(), ": tensor '", tensor.name, "' is of type ", tensor.type_id,
               " of ggml; weights are read from ", gguf_type_names(), "; write it again as one of them");
    const GgufType& type = *tensor.type;
    const uint64_t blocks = out.size() / type.elems;
    const uint64_t begin = tensor.offset + first * type.row_bytes(tensor.cols());
    std::vector<unsigned char> chunk;
    for (uint64_t block = 0, n; block < blocks; block += n) {
        n = std::min(blocks - block, kChunkBytes / type.bytes);
        chunk.resize(n * type.bytes);
        file_.read_at(begin + block * type.bytes, chunk.data(), chunk.size());
        for (uint64_t i = 0; i < n; i++) type.decode(&chunk[i * type.bytes], &out[(block + i) * type.elems]);
    }
    const auto bad = std::ranges::find_if_not(out, [](float value) { return std::isfinite(value); });
    KILN_CHECK(bad == out.end(), path_.string(), ": tensor '", tensor.name, "' holds ", *bad, " at element ",
               first * tensor.cols() + uint64_t(bad - out.begin()),
               "; nothing can be computed from it, use another copy");
}

void GgufHeader::key(std::string_view name, uint32_t type) {
    append_string(values_, name);
    append(values_, type);
    keys_++;
}

void GgufHeader::array(std::string_view name, uint32_t type, uint64_t count) {
    key(name, kArray);
    append(values_, type);
    append(values_, count);
}

void GgufHeader::string(std::string_view name, std::string_view value) {
    key(name, kString);
    append_string(values_, value);
}

void GgufHeader::whole(std::string_view name, uint64_t value) {
    key(name, kUint32);
    append(values_, uint32_t(value));
}

void GgufHeader::real(std::string_view name, float value) {
    key(name, kFloat32);
    append(values_, value);
}

void GgufHeader::boolean(std::string_view name, bool value) {
    key(name, kBool);
    append(values_, uint8_t(value));
}

void GgufHeader::strings(std::string_view name, std::span<const std::string> values) {
    array(name, kString, values.size());
    for (const std::string& value : values) append_string(values_, value);
}

void GgufHeader::wholes(std::string_view name, std::span<const int> values) {
    array(name, kInt32, values.size());
    for (const int value : values) append(values_, value);
}

void GgufHeader::reals(std::string_view name, std::span<const float> values) {
    array(name, kFloat32, values.size());
    for (const float value : values) append(values_, value);
}

void GgufHeader::tensor(std::string_view name, std::span<const uint64_t> shape, const GgufType& type) {
    append_string(tensors_, name);
    append(tensors_, uint32_t(shape.size()));
    for (size_t d = shape.size(); d-- > 0;) append(tensors_, shape[d]);
    append(tensors_, type.id);
    append(tensors_, data_bytes_);
    data_bytes_ += gguf_padded(elems_of(shape) / type.elems * type.bytes);
    num_tensors_++;
}

std::string GgufHeader::bytes() const {
    std::string out = "GGUF";
    append(out, kVersion);
    append(out, num_tensors_);
    append(out, keys_);
    out += values_ + tensors_;
    out.resize(gguf_padded(out.size()), '\0');
    return out;
}

}  // namespace kiln
