#include "tools/formats/huggingface_model.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/temp_directory.h"
#include "tokenizer/bpe/trainer.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/json_file.h"
#include "tools/formats/model_formats.h"
#include "tools/formats/new_directory.h"
#include "tools/formats/safetensors.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kModels[] = {
    "gpt2:layers=2,dim=8,heads=2,vocab=11,ctx=6",
    "llama:layers=2,dim=12,heads=6,kv_heads=2,ffn=10,vocab=11,ctx=16,tied=0",
    "qwen2:layers=2,dim=8,heads=2,kv_heads=1,ffn=12,vocab=11,ctx=16,tied=1",
    "qwen3:layers=2,dim=8,heads=2,kv_heads=1,head_size=10,ffn=12,vocab=11,ctx=16,tied=0",
};

struct Type {
    const char *name, *stored, *torch;
};
constexpr Type kTypes[] = {{"f32", "F32", "float32"}, {"f16", "F16", "float16"}, {"bf16", "BF16", "bfloat16"}};

// A number that the type has: zeros of both signs, subnormals, the largest numbers, and all others.
float number_of(const Type& type, size_t i) {
    const auto mixed = uint32_t((i + 1) * 2654435761u);
    if (i % 16 == 1) return -0.0f;
    if (type.stored == std::string("F16")) {
        const uint32_t bits = i % 16 == 2 ? mixed & 0x83ff : i % 16 == 3 ? 0xfbff : mixed & 0xffff;
        return half_to_float(uint16_t((bits & 0x7c00) == 0x7c00 ? bits ^ 0x4000 : bits));
    }
    const uint32_t bits = i % 16 == 2 ? mixed & 0x807fffff : i % 16 == 3 ? 0xff7fffff : mixed;
    const uint32_t finite = (bits & 0x7f800000) == 0x7f800000 ? bits ^ 0x40000000 : bits;
    return std::bit_cast<float>(type.stored == std::string("BF16") ? finite & 0xffff0000 : finite);
}

// A tokenizer, and a file beside it that Kiln would write in another way.
const ModelFiles& tokenizer_files() {
    static const ModelFiles files = [] {
        const TempDirectory directory;
        BpeTrainer trainer({.vocab_size = 260, .special_tokens = {"<|endoftext|>"}});
        trainer.add_text("a text", "text");
        trainer.train().save(directory.path());
        directory.write("special_tokens_map.json", "{ \"eos_token\":\n  \"<|endoftext|>\" }");
        return ModelFiles(directory.path(), {});
    }();
    return files;
}

StoredModel stored(const std::string& descriptor, const Type& type) {
    const auto read = [type](const TensorSpec& spec, std::span<float> out) {
        for (size_t i = 0; i < out.size(); i++) out[i] = number_of(type, spec.offset + i);
    };
    return {parse_model(descriptor), tokenizer_files(), type.stored, read};
}

std::set<std::string> names_in(const fs::path& directory) {
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory)) names.insert(entry.path().filename());
    return names;
}

// Each file of `a` is in `b`, byte for byte, and the other way round.
void expect_same_files(const fs::path& a, const fs::path& b) {
    EXPECT_EQ(names_in(a), names_in(b));
    for (const std::string& name : names_in(a)) EXPECT_EQ(read_file(a / name), read_file(b / name)) << name;
}

TEST(HfModel, in_then_out_gives_the_same_bytes_in_every_type) {
    for (const char* descriptor : kModels) {
        for (const Type& type : kTypes) {
            for (const uint64_t max_file_bytes : {kMaxWeightFileBytes, uint64_t(2000)}) {
                if (max_file_bytes == 2000 && descriptor != kModels[0] && descriptor != kModels[3]) continue;
                const TempDirectory directory;
                write_hf_divided(directory / "a", stored(descriptor, type), "", nullptr, max_file_bytes);
                const StoredModel read = open_hf(directory / "a");
                EXPECT_EQ(read.dtype, type.stored);
                EXPECT_EQ(read.config, parse_model(descriptor));
                write_hf_divided(directory / "b", read, "", nullptr, max_file_bytes);
                expect_same_files(directory / "a", directory / "b");
                for (const TokenizerKind::File& file : tokenizer_files().files) {
                    EXPECT_EQ(read_file(directory / "a" / file.name), file.content);
                }
                const json config = read_json(directory / "a/config.json");
                EXPECT_EQ(config["dtype"], type.torch);
                EXPECT_EQ(config["torch_dtype"], type.torch);
                // The values themselves, which an error that is its own inverse would not spoil.
                for (const TensorSpec& spec : param_table(read.config)) {
                    std::vector<float> values(spec.elems());
                    read.read(spec, values);
                    for (size_t i = 0; i < values.size(); i++) {
                        ASSERT_EQ(std::bit_cast<uint32_t>(values[i]),
                                  std::bit_cast<uint32_t>(number_of(type, spec.offset + i)))
                            << descriptor << " " << spec.name << " " << i;
                    }
                }
            }
        }
    }
}

TEST(HfModel, model_of_several_files_has_an_index_of_all_tensors) {
    const TempDirectory directory;
    uint64_t last = 0, all_bytes = 0;
    const auto progress = [&](uint64_t done, uint64_t all) {
        EXPECT_GT(done, last);
        last = done, all_bytes = all;
    };
    write_hf_divided(directory / "m", stored(kModels[1], kTypes[2]), "", progress, 1000);
    EXPECT_EQ(last, all_bytes);
    const json index = read_json(directory / "m/model.safetensors.index.json");
    EXPECT_EQ(index["metadata"]["total_size"], all_bytes);
    EXPECT_EQ(all_bytes, 2 * uint64_t(count_parameters(parse_model(kModels[1]))));
    std::set<std::string> files;
    for (const auto& [tensor, file] : index["weight_map"].items()) files.insert(file);
    EXPECT_EQ(files.size(), 5u);
    EXPECT_TRUE(files.contains("model-00001-of-00005.safetensors"));
    EXPECT_TRUE(files.contains("model-00005-of-00005.safetensors"));
    size_t tensors = 0;
    for (const std::string& name : files) {
        const SafetensorsFile file(directory / "m" / name);
        tensors += file.tensors().size();
        EXPECT_LE(file.tensors().back().end, 1000u);
        for (const StoredTensor& tensor : file.tensors()) EXPECT_EQ(index["weight_map"][tensor.name], name);
    }
    EXPECT_EQ(tensors, index["weight_map"].size());
}

TEST(HfModel, narrower_type_rounds_and_default_is_float32_for_a_type_that_the_format_lacks) {
    const TempDirectory directory;
    StoredModel model = stored(kModels[0], kTypes[2]);
    model.read = [](const TensorSpec&, std::span<float> out) {
        std::ranges::fill(out, 1.0039064f);
    };  // above the middle
    write_hf(directory / "bf16", model, "bf16", nullptr);
    model.dtype = "Q8_0";
    write_hf(directory / "f32", model, "", nullptr);
    for (const auto& [name, expected] : {std::pair{"bf16", 1.0078125f}, {"f32", 1.0039064f}}) {
        const SafetensorsFile file(directory / name / "model.safetensors");
        std::vector<float> value(1);
        file.read(file.tensors()[0], 0, value);
        EXPECT_EQ(value[0], expected);
    }
}

TEST(HfModel, tensors_of_different_types_are_read_as_float32_which_holds_all) {
    const TempDirectory directory;
    write_hf(directory / "m", stored(kModels[2], kTypes[1]), "", nullptr);
    fs::remove(directory / "m/model.safetensors");
    std::vector<SafetensorsWriter::Declared> declared;
    for (const HfTensor& tensor : hf_tensors(parse_model(kModels[2]), "qwen2")) {
        declared.push_back({.name = tensor.name, .shape = tensor.shape, .dtype = declared.empty() ? "F32" : "BF16"});
    }
    SafetensorsWriter writer(directory / "m/model.safetensors", declared);
    writer.append(std::vector<float>(size_t(count_parameters(parse_model(kModels[2]))), 1.0f));
    writer.finish();
    EXPECT_EQ(open_hf(directory / "m").dtype, "F32");
}

TEST(HfModel, value_beyond_the_range_of_the_type_is_refused_and_leaves_nothing) {
    const TempDirectory directory;
    StoredModel model = stored(kModels[1], kTypes[0]);
    model.read = [](const TensorSpec& spec, std::span<float> out) {
        std::ranges::fill(out, 65519.0f);
        if (spec.name == "block.1.proj_w") out[7] = -65520.0f;
    };
    const std::string message = error_of([&] { write_hf(directory / "m", model, "f16", nullptr); });
    EXPECT_NE(
        message.find("tensor 'model.layers.1.mlp.down_proj.weight' holds -65520, which is beyond the range of F16"),
        std::string::npos)
        << message;
    EXPECT_TRUE(fs::is_empty(directory.path()));
    write_hf(directory / "m", model, "bf16", nullptr);
}

TEST(HfModel, pickle_is_refused_with_the_command_that_converts_it) {
    for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"}) {
        const TempDirectory directory;
        write_hf(directory / "m", stored(kModels[0], kTypes[0]), "", nullptr);
        fs::rename(directory / "m/model.safetensors", directory / "m" / name);
        const std::string message = error_of([&] { open_hf(directory / "m"); });
        EXPECT_TRUE(message.starts_with((directory / "m" / name).string() + ": is a pickle")) << message;
        EXPECT_NE(message.find("from_pretrained('" + (directory / "m").string() + "')"), std::string::npos) << message;
    }
}

TEST(NewDirectory, replaces_a_model_and_nothing_else) {
    const TempDirectory directory;
    const StoredModel model = stored(kModels[0], kTypes[0]);
    const auto refusal = [&](const char* name) {
        return error_of([&] { write_hf(directory / name, model, "", nullptr); });
    };
    fs::create_directory(directory / "empty");
    EXPECT_EQ(refusal("empty"), "");
    directory.write("empty/model-00003-of-00003.safetensors", "");
    EXPECT_EQ(refusal("empty"), "");
    EXPECT_FALSE(fs::exists(directory / "empty/model-00003-of-00003.safetensors"));

    directory.write("notes/mine.txt", "");
    directory.write("home/config.json", "");
    directory.write("home/folder/mine.txt", "");
    directory.write("checkpoint/config.json", "");
    directory.write("checkpoint/manifest.json", "");
    for (const char* name : {"notes", "checkpoint"}) {
        EXPECT_NE(refusal(name).find("only a model directory is replaced"), std::string::npos) << name;
    }
    EXPECT_NE(refusal("home").find("holds folder, which is no file of a model"), std::string::npos);
    directory.write("file", "");
    EXPECT_NE(refusal("file").find("is not a directory"), std::string::npos);
    EXPECT_EQ(names_in(directory.path()), (std::set<std::string>{"checkpoint", "empty", "file", "home", "notes"}));
}

TEST(NewDirectory, removes_what_a_killed_process_left_and_waits_for_no_other) {
    const TempDirectory directory;
    directory.write(".saving-m/model.safetensors", "half");
    {
        NewDirectory one(directory / "m");
        EXPECT_TRUE(fs::is_empty(one.path()));
        EXPECT_NE(error_of([&] { NewDirectory(directory / "m"); }).find("another process is writing"),
                  std::string::npos);
        EXPECT_FALSE(fs::exists(directory / "m"));
    }
    EXPECT_TRUE(fs::is_empty(directory.path()));
}

TEST(ModelFormats, every_row_has_a_name_and_both_directions) {
    for (const ModelFormat& format : model_formats()) {
        EXPECT_EQ(&model_format(format.name), &format);
        EXPECT_TRUE(format.open && format.write) << format.name;
    }
}

}  // namespace
}  // namespace kiln
