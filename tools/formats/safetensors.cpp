#include "tools/formats/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "cpu_reference/interface/error.h"
#include "tools/formats/json_file.h"

namespace kiln {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian, and so is this code");

using nlohmann::json;

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference implementation's limit
constexpr size_t kMaxRank = 16, kMaxNameBytes = 4096;

struct DtypeBytes {
    std::string_view name;
    uint64_t bytes;
};
constexpr DtypeBytes kDtypes[] = {{"F32", 4},     {"F16", 2},     {"BF16", 2}, {"F64", 8}, {"I64", 8}, {"I32", 4},
                                  {"I16", 2},     {"I8", 1},      {"U64", 8},  {"U32", 4}, {"U16", 2}, {"U8", 1},
                                  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"BOOL", 1}, {"C64", 8}};

// Reads the header while nlohmann-json parses it, and stops at the first fault. A tree of JSON values would need many
// times the size of the header, and a hostile file chooses that size.
class HeaderReader : public nlohmann::json_sax<json> {
public:
    std::vector<StoredTensor> tensors;
    std::string problem;  // what is wrong; empty: nothing

    bool null() override { return fail("null"); }
    bool boolean(bool) override { return fail("a boolean"); }
    bool number_integer(number_integer_t) override { return fail("a negative number"); }
    bool number_float(number_float_t, const string_t&) override { return fail("a number that is not a whole number"); }
    bool binary(binary_t&) override { return fail("binary data"); }

    bool number_unsigned(number_unsigned_t value) override {
        if (place_ == Place::shape) {
            if (tensors.back().shape.size() >= kMaxRank) return complain("has more than 16 dimensions");
            tensors.back().shape.push_back(value);
            return true;
        }
        if (place_ == Place::offsets) {
            if (num_offsets_ >= 2) return complain("has more than two data_offsets");
            (num_offsets_++ == 0 ? tensors.back().begin : tensors.back().end) = value;
            return true;
        }
        return fail("a number");
    }

    bool string(string_t& value) override {
        if (place_ == Place::metadata) return true;
        if (place_ != Place::tensor || field_ != "dtype") return fail("a string");
        tensors.back().dtype = value;
        return true;
    }

    bool start_object(size_t) override {
        if (place_ == Place::start) {
            place_ = Place::top;
        } else if (place_ == Place::top && in_metadata_) {
            place_ = Place::metadata;
        } else if (place_ == Place::top) {
            place_ = Place::tensor;
            has_dtype_ = has_shape_ = has_offsets_ = false;
        } else {
            return fail("an object");
        }
        return true;
    }

    bool key(string_t& value) override {
        if (place_ == Place::metadata) return true;
        if (place_ == Place::top) {
            in_metadata_ = value == "__metadata__";
            if (in_metadata_ && std::exchange(seen_metadata_, true)) return complain("repeats __metadata__");
            if (value.size() > kMaxNameBytes) return complain("has a name of more than 4096 bytes after it");
            if (!in_metadata_) tensors.push_back({value, "", {}, 0, 0});
            return true;
        }
        field_ = value;
        bool* seen = value == "dtype"          ? &has_dtype_
                     : value == "shape"        ? &has_shape_
                     : value == "data_offsets" ? &has_offsets_
                                               : nullptr;
        if (!seen) return complain(concat("has a field '", value, "' that the format does not know"));
        if (std::exchange(*seen, true)) return complain(concat("repeats its field '", value, "'"));
        return true;
    }

    bool end_object() override {
        if (place_ == Place::tensor && !(has_dtype_ && has_shape_ && has_offsets_)) {
            return complain("lacks dtype, shape or data_offsets");
        }
        place_ = place_ == Place::top ? Place::end : Place::top;
        return true;
    }

    bool start_array(size_t) override {
        if (place_ == Place::tensor && field_ == "shape") {
            place_ = Place::shape;
        } else if (place_ == Place::tensor && field_ == "data_offsets") {
            place_ = Place::offsets;
            num_offsets_ = 0;
        } else {
            return fail("an array");
        }
        return true;
    }

    bool end_array() override {
        if (place_ == Place::offsets && num_offsets_ != 2) return complain("has fewer than two data_offsets");
        place_ = Place::tensor;
        return true;
    }

    bool parse_error(size_t position, const std::string&, const json::exception&) override {
        problem = concat("is not valid JSON at byte ", position + sizeof(uint64_t));
        return false;
    }

private:
    enum class Place { start, top, metadata, tensor, shape, offsets, end };

    bool complain(const std::string& what) {
        problem = tensors.empty() ? what : concat("at tensor '", tensors.back().name, "' ", what);
        return false;
    }
    bool fail(const char* what) { return complain(concat("has ", what, " where the format allows none")); }

    Place place_ = Place::start;
    std::string field_;
    bool in_metadata_ = false, seen_metadata_ = false;
    bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
    int num_offsets_ = 0;
};

// The size of the tensor in bytes, or nothing if it overflows or the type is unknown.
std::optional<uint64_t> expected_bytes(const StoredTensor& tensor) {
    const auto* dtype = std::ranges::find(kDtypes, std::string_view(tensor.dtype), &DtypeBytes::name);
    if (dtype == std::end(kDtypes)) return std::nullopt;
    // elems() multiplies in any order, so the extents that are not 0 must not overflow either.
    uint64_t bytes = dtype->bytes;
    bool empty = false;
    for (const uint64_t extent : tensor.shape) {
        empty |= extent == 0;
        if (extent != 0 && __builtin_mul_overflow(bytes, extent, &bytes)) return std::nullopt;
    }
    return empty ? 0 : bytes;
}

void check_layout(const std::filesystem::path& path, std::vector<StoredTensor>& tensors, uint64_t data_bytes) {
    for (const StoredTensor& tensor : tensors) {
        KILN_CHECK(std::ranges::find(kDtypes, std::string_view(tensor.dtype), &DtypeBytes::name) != std::end(kDtypes),
                   path.string(), ": tensor '", tensor.name, "' has the unknown type '", tensor.dtype, "'");
        KILN_CHECK(tensor.begin <= tensor.end && tensor.end <= data_bytes, path.string(), ": tensor '", tensor.name,
                   "' claims the bytes ", tensor.begin, "..", tensor.end, " of ", data_bytes,
                   "; the file is truncated or corrupt, get it again");
        const auto bytes = expected_bytes(tensor);
        KILN_CHECK(bytes == tensor.end - tensor.begin, path.string(), ": tensor '", tensor.name, "' of type ",
                   tensor.dtype, " and shape ", shape_text(tensor.shape), " does not fit its ",
                   tensor.end - tensor.begin, " bytes");
    }
    std::ranges::sort(tensors, [](const StoredTensor& a, const StoredTensor& b) {
        return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    uint64_t covered = 0;
    for (const StoredTensor& tensor : tensors) {
        KILN_CHECK(
            tensor.begin == covered, path.string(), ": tensor '", tensor.name, "' begins at byte ", tensor.begin,
            tensor.begin < covered ? " and overlaps the one before it, which ends at " : " and leaves a hole after ",
            covered);
        covered = tensor.end;
    }
    KILN_CHECK(covered == data_bytes, path.string(), ": ", data_bytes - covered,
               " bytes at its end belong to no tensor; the file is corrupt, get it again");
    std::ranges::sort(tensors, {}, &StoredTensor::name);
    const auto twin = std::ranges::adjacent_find(tensors, {}, &StoredTensor::name);
    KILN_CHECK(twin == tensors.end(), path.string(), ": tensor '", twin->name, "' occurs twice");
}

template <float (*to_float)(uint16_t)>
void read_as(const InputFile& file, uint64_t offset, std::span<float> out) {
    std::array<uint16_t, 8192> part;
    for (size_t done = 0; done < out.size(); done += part.size()) {
        const size_t n = std::min(part.size(), out.size() - done);
        file.read_at(offset + done * sizeof(uint16_t), part.data(), n * sizeof(uint16_t));
        std::transform(part.begin(), part.begin() + n, out.begin() + ptrdiff_t(done), to_float);
    }
}

uint64_t bytes_of(std::string_view dtype) {
    return std::ranges::find(kDtypes, dtype, &DtypeBytes::name)->bytes;
}

// Throws Error if a value of the tensor, `values` from element `first` on, is infinite, NaN or below `least`.
void check_values(const std::filesystem::path& path, const std::string& tensor, uint64_t first,
                  std::span<const float> values, float least, const char* advice) {
    const float* x = values.data();
    const size_t n = values.size();
    int bad = 0;  // without a branch, so that this costs a tenth of what loading does
#pragma omp simd reduction(| : bad)
    for (size_t i = 0; i < n; i++) bad |= !(int(x[i] >= least) & int(x[i] <= FLT_MAX));
    if (bad == 0) return;
    const auto at = std::ranges::find_if(values, [least](float x) { return !(x >= least && x <= FLT_MAX); });
    throw Error(concat(path.string(), ": tensor '", tensor, "' holds ", *at, " at element ",
                       first + uint64_t(at - values.begin()),
                       least == 0 ? ", where only finite numbers from 0 on can be" : "",
                       "; nothing can be computed from it, ", advice));
}

// Throws Error that says what to do about a directory without weights that Kiln reads.
[[noreturn]] void refuse_other_weights(const std::filesystem::path& directory) {
    std::error_code ignored;
    for (const char* pickle : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
        KILN_CHECK(!std::filesystem::exists(directory / pickle, ignored), (directory / pickle).string(),
                   ": is a pickle, which can run any program when it is read, so Kiln reads none. If you trust it, "
                   "convert it: python3 -c \"from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; "
                   "[C.from_pretrained('",
                   directory.string(), "').save_pretrained('NEW_DIR') for C in (M, T)]\"");
    }
    throw Error(
        concat(directory.string(), ": holds neither model.safetensors nor model.safetensors.index.json; give another"));
}

}  // namespace

std::string shape_text(std::span<const uint64_t> shape) {
    std::string text = "(";
    for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
    return text + ")";
}

float bfloat16_to_float(uint16_t bits) {
    return std::bit_cast<float>(uint32_t(bits) << 16);
}

float half_to_float(uint16_t bits) {
    const uint32_t sign = uint32_t(bits & 0x8000) << 16, exponent = (bits >> 10) & 31, mantissa = bits & 1023;
    if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24, exact in float32
        const float magnitude = float(mantissa) * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    const uint32_t wide = exponent == 31 ? 255 : exponent + (127 - 15);
    return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

uint16_t float_to_bfloat16(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t float_to_half(float x) {
    const auto bits = std::bit_cast<uint32_t>(x);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    constexpr uint32_t kLeastNormal = 113u << 23, kInfinity = 31u << 10;  // 2^-14; of binary16
    // A subnormal is a multiple of 2^-24, which is the unit in the last place of floats from 0.5 to 1.
    if (magnitude < kLeastNormal) {
        const float rounded = std::bit_cast<float>(magnitude) + 0.5f;
        return uint16_t(sign | (std::bit_cast<uint32_t>(rounded) - std::bit_cast<uint32_t>(0.5f)));
    }
    const uint32_t rounded = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
    return uint16_t(sign | std::min(rounded, kInfinity));
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path), file_(path) {
    const uint64_t bytes = file_.size();
    uint64_t header_bytes = 0;
    KILN_CHECK(bytes >= sizeof(header_bytes), path.string(), ": ", bytes,
               " bytes are too few for a safetensors file; it is empty or truncated, get it again");
    file_.read_at(0, &header_bytes, sizeof(header_bytes));
    KILN_CHECK(header_bytes <= kMaxHeaderBytes && header_bytes <= bytes - sizeof(header_bytes), path.string(),
               ": claims a header of ", header_bytes, " bytes in a file of ", bytes,
               "; it is truncated or not a safetensors file");
    std::string header(header_bytes, '\0');
    file_.read_at(sizeof(header_bytes), header.data(), header.size());
    KILN_CHECK(header.starts_with('{'), path.string(), ": the header does not begin with '{'; not a safetensors file");
    HeaderReader reader;
    const bool parsed = json::sax_parse(header.begin(), header.end(), &reader);
    KILN_CHECK(parsed && reader.problem.empty(), path.string(), ": the safetensors header ", reader.problem);
    tensors_ = std::move(reader.tensors);
    data_ = sizeof(header_bytes) + header_bytes;
    check_layout(path_, tensors_, bytes - data_);
}

const StoredTensor* SafetensorsFile::find(std::string_view name) const {
    const auto found = std::ranges::lower_bound(tensors_, name, {}, &StoredTensor::name);
    return found != tensors_.end() && found->name == name ? &*found : nullptr;
}

void SafetensorsFile::read(const StoredTensor& tensor, uint64_t first, std::span<float> out) const {
    KILN_CHECK(first <= tensor.elems() && out.size() <= tensor.elems() - first, path_.string(), ": tensor '",
               tensor.name, "' has ", tensor.elems(), " values; asked for ", out.size(), " from ", first);
    const uint64_t begin = data_ + tensor.begin;
    if (tensor.dtype == "F32") {
        file_.read_at(begin + first * sizeof(float), out.data(), out.size_bytes());
    } else if (tensor.dtype == "F16") {
        read_as<half_to_float>(file_, begin + first * sizeof(uint16_t), out);
    } else if (tensor.dtype == "BF16") {
        read_as<bfloat16_to_float>(file_, begin + first * sizeof(uint16_t), out);
    } else {
        throw Error(concat(path_.string(), ": tensor '", tensor.name, "' is of type ", tensor.dtype,
                           "; weights are read from F32, F16 and BF16"));
    }
}

void SafetensorsFile::read_finite(const StoredTensor& tensor, uint64_t first, std::span<float> out, float min) const {
    read(tensor, first, out);
    check_values(path_, tensor.name, first, out, min, "use an earlier checkpoint or another copy");
}

void SafetensorsFile::verify_finite(const StoredTensor& tensor, float min) const {
    std::vector<float> chunk;
    for (uint64_t done = 0; done < tensor.elems(); done += chunk.size()) {
        chunk.resize(std::min(uint64_t(1) << 20, tensor.elems() - done));
        read_finite(tensor, done, chunk, min);
    }
}

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, const std::vector<Declared>& tensors)
    : file_(path), tensors_(tensors) {
    nlohmann::ordered_json header = nlohmann::ordered_json::object();
    header["__metadata__"] = {{"format", "pt"}};
    std::set<std::string_view> names{"__metadata__"};
    uint64_t end = 0;
    for (const Declared& tensor : tensors) {
        KILN_CHECK(names.insert(tensor.name).second, path.string(), ": tensor '", tensor.name, "' is written twice");
        const uint64_t begin = end;
        values_left_ += elems_of(tensor.shape);
        end += elems_of(tensor.shape) * bytes_of(tensor.dtype);
        header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    }
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data is aligned where other programs map it
    const uint64_t header_bytes = text.size();
    KILN_CHECK(header_bytes <= kMaxHeaderBytes, path.string(), ": a header of ", header_bytes, " bytes is too long");
    write(&header_bytes, sizeof(header_bytes));
    write(text.data(), text.size());
}

void SafetensorsWriter::write(const void* data, size_t bytes) {
    hash_.update(data, bytes);
    file_.write(data, bytes);
    bytes_ += bytes;
}

void SafetensorsWriter::append(std::span<const float> values) {
    KILN_CHECK(values.size() <= values_left_, file_.path().string(), ": ", values.size(), " values appended where ",
               values_left_, " were declared");
    for (auto rest = values; !rest.empty();) {
        const Declared& tensor = tensors_[tensor_];
        const auto part = rest.first(std::min<uint64_t>(rest.size(), elems_of(tensor.shape) - tensor_elems_));
        check_values(file_.path(), tensor.name, tensor_elems_, part, tensor.least,
                     "so it is not saved; resume the run from its newest checkpoint");
        write_as(tensor, part);
        rest = rest.subspan(part.size());
        tensor_elems_ += part.size();
        if (!rest.empty()) tensor_++, tensor_elems_ = 0;
    }
    values_left_ -= values.size();
}

void SafetensorsWriter::write_as(const Declared& tensor, std::span<const float> values) {
    if (tensor.dtype == "F32") return write(values.data(), values.size_bytes());
    const bool half = tensor.dtype == "F16";
    narrow_.resize(values.size());
    std::ranges::transform(values, narrow_.begin(), half ? float_to_half : float_to_bfloat16);
    const uint16_t infinity = half ? 0x7c00 : 0x7f80;
    const auto beyond = std::ranges::find_if(narrow_, [=](uint16_t bits) { return (bits & 0x7fff) == infinity; });
    KILN_CHECK(beyond == narrow_.end(), file_.path().string(), ": tensor '", tensor.name, "' holds ",
               values[size_t(beyond - narrow_.begin())], ", which is beyond the range of ", tensor.dtype,
               "; choose another type");
    write(narrow_.data(), narrow_.size() * sizeof(uint16_t));
}

FileDigest SafetensorsWriter::finish() {
    KILN_CHECK(values_left_ == 0, file_.path().string(), ": ", values_left_, " declared values were not written");
    file_.sync();
    file_.close();
    return {bytes_, hash_.digest()};
}

ModelTensors::ModelTensors(const std::filesystem::path& directory) {
    const auto single = directory / "model.safetensors", index = directory / "model.safetensors.index.json";
    std::error_code ignored;
    if (std::filesystem::exists(single, ignored)) {
        path_ = single;
        files_.emplace_back(single);
        for (const StoredTensor& tensor : files_[0].tensors()) file_of_.emplace(tensor.name, 0);
        return;
    }
    if (!std::filesystem::exists(index, ignored)) refuse_other_weights(directory);
    path_ = index;
    const json parsed = read_json(index);
    const auto map = parsed.find("weight_map");
    KILN_CHECK(map != parsed.end() && map->is_object(), index.string(), ": has no \"weight_map\"; get it again");
    std::map<std::string, size_t> opened;
    for (const auto& [tensor, value] : map->items()) {
        KILN_CHECK(value.is_string(), index.string(), ": tensor '", tensor, "' names no file");
        const std::string file = value.get<std::string>();
        // Names only: a path could lead out of the directory.
        KILN_CHECK(!file.empty() && file.find('/') == file.npos, index.string(), ": tensor '", tensor, "' lies in '",
                   file, "', which is not a file name");
        const auto [place, is_first] = opened.try_emplace(file, files_.size());
        if (is_first) files_.emplace_back(directory / file);
        KILN_CHECK(files_[place->second].find(tensor), index.string(), ": tensor '", tensor, "' is not in ", file);
        file_of_.emplace(tensor, place->second);
    }
    for (const SafetensorsFile& file : files_) {
        for (const StoredTensor& tensor : file.tensors()) {
            const auto listed = file_of_.find(tensor.name);
            KILN_CHECK(listed != file_of_.end() && files_[listed->second].path() == file.path(), file.path().string(),
                       ": tensor '", tensor.name, "' is not listed in ", index.filename().string());
        }
    }
}

ModelTensors::Found ModelTensors::find(std::string_view name) const {
    const auto place = file_of_.find(name);
    if (place == file_of_.end()) return {};
    const SafetensorsFile& file = files_[place->second];
    return {&file, file.find(name)};
}

std::vector<std::string> ModelTensors::names() const {
    std::vector<std::string> names;
    for (const auto& [name, file] : file_of_) names.push_back(name);
    return names;
}

}  // namespace kiln
