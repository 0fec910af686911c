#include "tools/formats/safetensors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

// A file of this header and data, with the header's true length in front unless another is given.
std::string make_file(const std::string& header, const std::string& data = "", std::optional<uint64_t> claimed = {}) {
    const uint64_t length = claimed.value_or(header.size());
    return std::string(reinterpret_cast<const char*>(&length), sizeof(length)) + header + data;
}

std::string tensor(const std::string& name, const std::string& dtype, const std::string& shape,
                   const std::string& offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

TEST(Safetensors, written_file_reads_back_equal) {
    const TempDirectory directory;
    const auto path = directory / "a.safetensors";
    std::vector<float> values(11);
    for (size_t i = 0; i < values.size(); i++) values[i] = float(i) - 5.5f;
    values[3] = std::numeric_limits<float>::denorm_min();
    values[4] = -0.0f;
    SafetensorsWriter writer(path, {{"z", {2, 3}}, {"a", {4}}, {"scalar", {}}, {"empty", {0, 7}}});
    writer.append(std::span<const float>(values).first(7));  // across the boundary of two tensors
    writer.append(std::span<const float>(values).last(4));
    writer.finish();

    const SafetensorsFile file(path);
    ASSERT_EQ(file.tensors().size(), 4u);
    std::vector<float> z(6), a(4), scalar(1);
    file.read(*file.find("z"), 0, z);
    file.read(*file.find("a"), 0, std::span<float>(a).first(1));
    file.read(*file.find("a"), 1, std::span<float>(a).last(3));
    file.read(*file.find("scalar"), 0, scalar);
    EXPECT_EQ(std::memcmp(z.data(), values.data(), 6 * sizeof(float)), 0);
    EXPECT_EQ(std::memcmp(a.data(), values.data() + 6, 4 * sizeof(float)), 0);
    EXPECT_EQ(scalar[0], values[10]);
    EXPECT_EQ(file.find("z")->shape, (std::vector<uint64_t>{2, 3}));
    EXPECT_EQ(file.find("b"), nullptr);
}

TEST(Safetensors, every_number_of_a_narrow_type_survives_float32) {
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        EXPECT_TRUE((bits & 0x7c00) == 0x7c00 || float_to_half(half_to_float(uint16_t(bits))) == bits) << bits;
        EXPECT_TRUE((bits & 0x7f80) == 0x7f80 || float_to_bfloat16(bfloat16_to_float(uint16_t(bits))) == bits) << bits;
    }
}

// Between each number and the next: just below the middle, the middle, just above it.
TEST(Safetensors, narrow_types_round_to_the_nearest_and_to_even) {
    const auto expect_rounded = [](auto widen, auto narrow, uint32_t infinity) {
        for (uint32_t bits = 0; bits < infinity; bits++) {
            // The next number after the largest would be twice the power of two.
            const double low = widen(uint16_t(bits)), below = bits == 0 ? 0 : widen(uint16_t(bits - 1));
            const double high = bits + 1 == infinity ? low + (low - below) : widen(uint16_t(bits + 1));
            const auto middle = float((low + high) / 2);
            const uint32_t even = bits + (bits & 1);
            for (const float sign : {1.0f, -1.0f}) {
                const uint32_t minus = sign < 0 ? 0x8000 : 0;
                EXPECT_EQ(narrow(sign * std::nextafterf(middle, 0)), bits | minus);
                EXPECT_EQ(narrow(sign * middle), even | minus);
                EXPECT_EQ(narrow(sign * std::nextafterf(middle, HUGE_VALF)), (bits + 1) | minus);
            }
        }
    };
    expect_rounded(half_to_float, float_to_half, 0x7c00);
    expect_rounded(bfloat16_to_float, float_to_bfloat16, 0x7f80);
}

TEST(Safetensors, header_starts_with_pytorch_metadata_and_aligns_the_data) {
    const TempDirectory directory;
    SafetensorsWriter writer(directory / "a", {{"x", {1}}});
    writer.append(std::vector<float>{1});
    writer.finish();
    const std::string text = read_file(directory / "a");
    EXPECT_EQ(text.substr(8, 36), R"({"__metadata__":{"format":"pt"},"x":)");
    EXPECT_EQ((text.size() - 4) % 8, 0u);
}

TEST(Safetensors, writer_refuses_what_was_not_declared) {
    const TempDirectory directory;
    SafetensorsWriter writer(directory / "a", {{"x", {2}}});
    writer.append(std::vector<float>{1});
    EXPECT_NE(error_of([&] { writer.finish(); }).find("1 declared values were not written"), std::string::npos);
    EXPECT_NE(error_of([&] { writer.append(std::vector<float>(2)); }).find("declared"), std::string::npos);
    EXPECT_NE(error_of([&] {
                  SafetensorsWriter(directory / "b", {{"x", {1}}, {"x", {1}}});
              }).find("'x'"),
              std::string::npos);
}

TEST(Safetensors, writer_refuses_what_cannot_be_computed_with_and_names_the_tensor) {
    const TempDirectory directory;
    for (const float bad : {NAN, HUGE_VALF, -HUGE_VALF, -1.0f}) {
        for (const bool at_once : {true, false}) {
            SafetensorsWriter writer(directory / "a", {{"any", {3}}, {"none", {0}}, {"square", {2, 2}, 0}});
            const std::vector<float> values{1, -1, 1, 0, 1, 2, bad};
            const std::string message = error_of([&] {
                for (const float& value : values) {
                    if (!at_once) writer.append({&value, 1});
                }
                if (at_once) writer.append(values);
            });
            EXPECT_NE(message.find("a: tensor 'square' holds "), std::string::npos) << message;
            EXPECT_NE(message.find(" at element 3, "), std::string::npos) << message;
        }
    }
}

TEST(Safetensors, half_to_float_is_exact_for_all_bit_patterns) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
        const float value = half_to_float(uint16_t(bits));
        if (exponent == 31) {
            EXPECT_TRUE(mantissa ? std::isnan(value) : std::isinf(value));
        } else {
            const double magnitude = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
            EXPECT_EQ(std::abs(double(value)), magnitude);
        }
        EXPECT_EQ(std::signbit(value), bits >= 32768);
    }
}

TEST(Safetensors, half_precision_tensors_are_read_as_float32) {
    const TempDirectory directory;
    const uint16_t words[] = {0x3C00, 0xC000, 0x3F80, 0xC000};  // 1, -2 as float16; 1, -2 as bfloat16
    const std::string data(reinterpret_cast<const char*>(words), sizeof(words));
    const auto path = directory.write(
        "a",
        make_file("{" + tensor("h", "F16", "[2]", "[0,4]") + "," + tensor("b", "BF16", "[2]", "[4,8]") + "}", data));
    const SafetensorsFile file(path);
    std::vector<float> h(2), b(2);
    file.read(*file.find("h"), 0, h);
    file.read(*file.find("b"), 0, b);
    EXPECT_EQ(h, (std::vector<float>{1, -2}));
    EXPECT_EQ(b, (std::vector<float>{1, -2}));
}

TEST(Safetensors, values_that_are_not_finite_are_named_in_each_type) {
    const struct {
        const char* dtype;
        std::string infinite, nan, minus_one;  // little-endian
    } types[] = {{"F32", {"\0\0\x80\x7f", 4}, {"\0\0\xc0\x7f", 4}, {"\0\0\x80\xbf", 4}},
                 {"F16", {"\0\x7c", 2}, {"\0\x7e", 2}, {"\0\xbc", 2}},
                 {"BF16", {"\x80\x7f", 2}, {"\xc0\x7f", 2}, {"\x80\xbf", 2}}};
    for (const auto& type : types) {
        const size_t bytes = type.nan.size();
        const auto message = [&](const std::string& value, float min) {
            const std::string shape = concat("[0,", 3 * bytes, "]"), zero(bytes, '\0');
            const TempDirectory directory;
            const auto path = directory.write(
                "w.safetensors", make_file("{" + tensor("x", type.dtype, "[3]", shape) + "}", zero + zero + value));
            const SafetensorsFile file(path);
            float out[2];
            return error_of([&] { file.read_finite(*file.find("x"), 1, out, min); });
        };
        EXPECT_NE(message(type.infinite, -FLT_MAX).find("'x' holds inf at element 2"), std::string::npos);
        EXPECT_NE(message(type.nan, 0).find("'x' holds nan at element 2"), std::string::npos);
        EXPECT_NE(message(type.minus_one, 0).find("'x' holds -1 at element 2"), std::string::npos);
        EXPECT_EQ(message(type.minus_one, -FLT_MAX), "");
        EXPECT_EQ(message(std::string(bytes, '\0'), 0), "");
    }
}

TEST(Safetensors, other_types_are_listed_but_not_read_as_weights) {
    const TempDirectory directory;
    const auto path = directory.write("a", make_file("{" + tensor("mask", "BOOL", "[4]", "[0,4]") + "}", "0123"));
    const SafetensorsFile file(path);
    std::vector<float> out(4);
    EXPECT_NE(error_of([&] { file.read(*file.find("mask"), 0, out); }).find("type BOOL"), std::string::npos);
}

struct Hostile {
    const char* name;
    std::string content, message;
};

class HostileSafetensors : public testing::TestWithParam<Hostile> {};

TEST_P(HostileSafetensors, names_the_file_and_the_fault) {
    const TempDirectory directory;
    const auto path = directory.write("bad.safetensors", GetParam().content);
    const std::string message = error_of([&] { SafetensorsFile file(path); });
    EXPECT_NE(message.find("bad.safetensors"), std::string::npos) << message;
    EXPECT_NE(message.find(GetParam().message), std::string::npos) << message;
}

const std::string kGood = tensor("x", "F32", "[1]", "[0,4]");
INSTANTIATE_TEST_SUITE_P(
    Files, HostileSafetensors,
    testing::Values(
        Hostile{"empty", "", "too few"}, Hostile{"short", "1234567", "too few"},
        Hostile{"length_beyond_file", make_file("{}", "", 1000), "claims a header of 1000 bytes"},
        Hostile{"length_wraps", make_file("{}", "", ~uint64_t(0)), "claims a header"},
        Hostile{"no_brace", make_file(" {}"), "does not begin with '{'"},
        Hostile{"text", "this is no safetensors file at all, just text", "claims a header"},
        Hostile{"bad_json", make_file("{\"x\":"), "not valid JSON"},
        Hostile{"trailing_json", make_file("{}{}"), "not valid JSON"},
        Hostile{"not_utf8", make_file("{\"\xff\":{}}"), "not valid JSON"},
        Hostile{"nested", make_file("{\"x\":" + std::string(100000, '[')), "'x' has an array"},
        Hostile{"tensor_is_number", make_file("{\"x\":1}"), "'x' has a number"},
        Hostile{"unknown_type", make_file("{" + tensor("x", "F31", "[1]", "[0,4]") + "}", "1234"),
                "unknown type 'F31'"},
        Hostile{"negative_shape", make_file("{" + tensor("x", "F32", "[-1]", "[0,4]") + "}", "1234"), "negative"},
        Hostile{"fractional_shape", make_file("{" + tensor("x", "F32", "[1.5]", "[0,4]") + "}", "1234"),
                "whole number"},
        Hostile{"huge_number", make_file("{" + tensor("x", "F32", "[99999999999999999999]", "[0,4]") + "}", "1234"),
                "whole number"},
        Hostile{"shape_overflows",
                make_file("{" + tensor("x", "F32", "[4294967296,4294967296,4]", "[0,4]") + "}", "1234"),
                "does not fit"},
        Hostile{"shape_overflows_to_size",
                make_file("{" + tensor("x", "F32", "[4611686018427387905]", "[0,4]") + "}", "1234"), "does not fit"},
        Hostile{"rank_too_high",
                make_file("{" + tensor("x", "F32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", "1234"),
                "more than 16"},
        Hostile{"offset_beyond_file", make_file("{" + tensor("x", "F32", "[2]", "[0,8]") + "}", "1234"), "0..8 of 4"},
        Hostile{"offsets_reversed", make_file("{" + tensor("x", "F32", "[1]", "[4,0]") + "}", "1234"), "4..0"},
        Hostile{"one_offset", make_file("{" + tensor("x", "F32", "[1]", "[4]") + "}", "1234"), "fewer than two"},
        Hostile{"three_offsets", make_file("{" + tensor("x", "F32", "[1]", "[0,4,4]") + "}", "1234"), "more than two"},
        Hostile{"size_differs", make_file("{" + tensor("x", "F32", "[2]", "[0,4]") + "}", "1234"), "does not fit"},
        Hostile{"overlap",
                make_file("{" + tensor("x", "F32", "[1]", "[0,4]") + "," + tensor("y", "F16", "[1]", "[2,4]") + "}",
                          "1234"),
                "overlaps"},
        Hostile{"hole",
                make_file("{" + tensor("x", "F32", "[1]", "[0,4]") + "," + tensor("y", "F32", "[1]", "[8,12]") + "}",
                          "123456789012"),
                "leaves a hole"},
        Hostile{"hole_in_front", make_file("{" + tensor("x", "F32", "[1]", "[4,8]") + "}", "12345678"), "hole"},
        Hostile{"bytes_left_over", make_file("{" + kGood + "}", "12345"), "1 bytes at its end"},
        Hostile{"duplicate", make_file("{" + kGood + "," + tensor("x", "F32", "[1]", "[4,8]") + "}", "12345678"),
                "occurs twice"},
        Hostile{"duplicate_field",
                make_file(R"({"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", "1234"),
                "repeats its field"},
        Hostile{"unknown_field", make_file(R"({"x":{"type":"F32","shape":[1],"data_offsets":[0,4]}})", "1234"),
                "field 'type'"},
        Hostile{"missing_field", make_file(R"({"x":{"dtype":"F32","shape":[1]}})", "1234"), "lacks"},
        Hostile{"metadata_twice", make_file(R"({"__metadata__":{},"__metadata__":{}})"), "repeats __metadata__"},
        Hostile{"metadata_not_text", make_file(R"({"__metadata__":{"a":1}})"), "a number"}),
    [](const testing::TestParamInfo<Hostile>& info) { return info.param.name; });

TEST(Safetensors, padding_and_metadata_are_accepted) {
    const TempDirectory directory;
    const auto path =
        directory.write("a", make_file(R"({"__metadata__":{"format":"pt","a":"b"},)" + kGood + "}   ", "1234"));
    EXPECT_EQ(SafetensorsFile(path).tensors().size(), 1u);
}

TEST(Safetensors, every_truncation_is_an_error) {
    const TempDirectory directory;
    SafetensorsWriter writer(directory / "a", {{"x", {3}}, {"y", {2, 2}}});
    writer.append(std::vector<float>(7, 1.0f));
    writer.finish();
    const std::string whole = read_file(directory / "a");
    for (size_t n = 0; n < whole.size(); n++) {
        EXPECT_THROW(SafetensorsFile(directory.write("cut", whole.substr(0, n))), Error) << n;
    }
}

TEST(ModelTensors, index_leads_to_the_files_it_names) {
    const TempDirectory directory;
    for (const char* name : {"x", "y"}) {
        SafetensorsWriter writer(directory / (std::string(name) + ".safetensors"), {{name, {1}}});
        writer.append(std::vector<float>{name[0] == 'x' ? 1.0f : 2.0f});
        writer.finish();
    }
    directory.write("model.safetensors.index.json",
                    R"({"metadata":{"total_size":8},"weight_map":{"x":"x.safetensors","y":"y.safetensors"}})");
    const ModelTensors tensors(directory.path());
    EXPECT_EQ(tensors.names(), (std::vector<std::string>{"x", "y"}));
    std::vector<float> value(1);
    const auto y = tensors.find("y");
    y.file->read(*y.tensor, 0, value);
    EXPECT_EQ(value[0], 2.0f);
    EXPECT_FALSE(tensors.find("z"));
}

TEST(ModelTensors, index_that_lies_is_an_error) {
    const TempDirectory directory;
    SafetensorsWriter writer(directory / "x.safetensors", {{"x", {1}}});
    writer.append(std::vector<float>{1});
    writer.finish();
    const auto message_for = [&](const std::string& index) {
        directory.write("model.safetensors.index.json", index);
        return error_of([&] { ModelTensors tensors(directory.path()); });
    };
    EXPECT_NE(message_for(R"({"weight_map":{"x":"x.safetensors","y":"x.safetensors"}})").find("'y' is not in"),
              std::string::npos);
    EXPECT_NE(message_for(R"({"weight_map":{"x":"../x.safetensors"}})").find("not a file name"), std::string::npos);
    EXPECT_NE(message_for(R"({"weight_map":{"x":"gone.safetensors"}})").find("gone.safetensors"), std::string::npos);
    EXPECT_NE(message_for(R"({"weight_map":[]})").find("weight_map"), std::string::npos);
    EXPECT_NE(message_for("{").find("not valid JSON"), std::string::npos);
    EXPECT_NE(message_for(std::string(100000, '[')).find("nested deeper"), std::string::npos);
}

}  // namespace
}  // namespace kiln
