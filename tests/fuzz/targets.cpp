#include "tests/fuzz/targets.h"

#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/tensors.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/data/evaluation.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/formats/llama2c.h"
#include "tokenizer/formats/llmc.h"
#include "tokenizer/huggingface/parts.h"
#include "tokenizer/prepare/block_parser.h"
#include "tokenizer/prepare/block_reader.h"
#include "tokenizer/sentencepiece/tokenizer.h"
#include "tokenizer/unicode/utf8.h"
#include "tools/checkpoint/manifest.h"
#include "tools/formats/gguf.h"
#include "tools/formats/huggingface.h"
#include "tools/formats/json_file.h"
#include "tools/formats/llama2c.h"
#include "tools/formats/llmc_debug.h"
#include "tools/formats/llmc_state.h"
#include "tools/train/loss_curve.h"
#include "tools/train/options.h"
#include "tools/train/trainer_state.h"

namespace kiln {
namespace {

void expect(bool holds, const char* what) {
    if (!holds) throw std::logic_error(what);
}

constexpr std::string_view kTexts[] = {"",
                                       "a",
                                       " ab  c\n\n'S 12345 \u00e9\u6f22\u5b57\U0001F600",
                                       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                                       "\xFF\xC3(\x80",
                                       " a, b's  12345\r\n <s>\u00e9e\u0301,\u6f22\uff0c it's  a test of cuts. "};

// Encodes and decodes; with `again`, a copy that was saved and loaded gives the same ids.
void use(const Tokenizer& tokenizer, const Tokenizer* again) {
    for (const std::string_view text : kTexts) {
        for (const bool allow_special : {false, true}) {
            try {
                const Encoding encoding = tokenizer.encode_with_offsets(text, {.allow_special = allow_special});
                expect(encoding.ids.size() == encoding.spans.size(), "a span for each id");
                for (const TextSpan& span : encoding.spans) {
                    expect(span.begin <= span.end && span.end <= text.size(), "spans lie in the text");
                }
                expect(tokenizer.encode(text, {.allow_special = allow_special}) == encoding.ids, "the same ids twice");
                if (const size_t at = tokenizer.find_cut(text, 1, {.allow_special = allow_special})) {
                    std::vector<int> ids;
                    tokenizer.encode(text.substr(0, at), {.continued = true, .allow_special = allow_special}, ids);
                    tokenizer.encode(text.substr(at), {.continues = true, .allow_special = allow_special}, ids);
                    expect(ids == encoding.ids, "the ids of the parts are those of the whole");
                }
                const std::string decoded = tokenizer.decode(encoding.ids);
                DecodeStream stream(tokenizer);
                std::string streamed;
                for (const int id : encoding.ids) streamed += stream.push(id);
                expect(streamed + stream.finish() == decoded, "streamed as decoded");
                if (again) {
                    expect(again->encode(text, {.allow_special = allow_special}) == encoding.ids,
                           "a saved copy gives the same ids");
                }
            } catch (const Error&) {
                // this tokenizer cannot encode the text
            }
        }
    }
}

void fuzz_tokenizer_json(std::string_view input) {
    const Tokenizer tokenizer = Tokenizer::parse(input, "input");
    const std::string saved = tokenizer.to_json();
    const Tokenizer again = Tokenizer::parse(saved, "saved");
    expect(again.to_json() == saved, "saved twice, the same");
    use(tokenizer, &again);
}

// vocab.json, merges.txt, added_tokens.json, special_tokens_map.json and tokenizer_config.json, a NUL between.
void fuzz_vocab_merges(std::string_view input) {
    std::string files[5];
    for (std::string& file : files) {
        const size_t end = std::min(input.find('\0'), input.size());
        file = input.substr(0, end);
        input.remove_prefix(std::min(end + 1, input.size()));
    }
    SideFiles side;
    side.added_tokens = files[2], side.special_tokens_map = files[3], side.config = files[4];
    const Tokenizer tokenizer = make_tokenizer(parse_vocab_and_merges(files[0], "v", files[1], "m", side), "input");
    const Tokenizer again = Tokenizer::parse(tokenizer.to_json(), "saved");
    use(tokenizer, &again);
}

void fuzz_tiktoken(std::string_view input) {
    const Tokenizer tokenizer =
        make_tokenizer(parse_tiktoken(input, "input", PreTokenizerSequence(), {{"<|endoftext|>", 300}}), "input");
    const Tokenizer again = Tokenizer::parse(tokenizer.to_json(), "saved");
    use(tokenizer, &again);
}

void fuzz_sentencepiece(std::string_view input) {
    use(make_sentencepiece_tokenizer(std::string(input), "input"), nullptr);
}

// A regular expression up to the first NUL, then the text.
void fuzz_regex_splitter(std::string_view input) {
    const size_t end = std::min(input.find('\0'), input.size());
    const std::string_view text = input.substr(std::min(end + 1, input.size()));
    const PreTokenizer pre_tokenizer = PreTokenizer::from_regex(std::string(input.substr(0, end)), "input");
    std::string joined;
    pre_tokenizer.split(text, [&](std::string_view word) {
        expect(!word.empty(), "no word is empty");
        joined += word;
    });
    expect(joined == text, "the words are the text");
}

// All documents of a file with these bytes.
void read_documents(std::string_view input, DocumentFormat format) {
    static const TempDirectory directory;
    const std::filesystem::path path = directory.write("input", input);
    DocumentOptions options;
    options.format = format;
    options.text_keys = {"text", "content"};
    options.chunk_bytes = 64;
    options.block_bytes = 256;
    options.max_record_bytes = 4096;
    BlockReader reader({{.path = path, .bytes = input.size()}}, options);
    BlockParser parser(options);
    Block block;
    BadRecords bad;
    size_t bytes = 0;
    while (reader.next(block)) {
        parser.parse(
            block,
            [&](const Chunk& chunk) {
                expect(!find_invalid_utf8(chunk.text), "documents are UTF-8");
                bytes += chunk.text.size();
            },
            bad);
        expect(block.bytes.size() < 100000, "blocks are bounded");
    }
    const bool compressed = input.starts_with("\x1F\x8B") || input.starts_with("\x28\xB5\x2F\xFD");
    expect(compressed || bytes <= 3 * input.size(), "documents are no longer than the file");
}

void fuzz_jsonl(std::string_view input) {
    const bool array = !input.empty() && input[0] % 2 != 0;  // also reads arrays
    if (!input.empty()) input.remove_prefix(1);
    read_documents(input, array ? DocumentFormat::json : DocumentFormat::jsonl);
}

void fuzz_csv(std::string_view input) {
    read_documents(input, DocumentFormat::csv);
}

void fuzz_shard(std::string_view input) {
    static const TempDirectory directory;
    const Shard shard(directory.write("shard.bin", input));
    expect(shard.info().payload_bytes() <= input.size(), "tokens lie in the file");
    std::vector<int> tokens(shard.info().num_tokens);
    if (!tokens.empty()) shard.copy(0, tokens.size(), tokens.data());
    shard.verify();
}

void fuzz_safetensors(std::string_view input) {
    static const TempDirectory directory;
    const SafetensorsFile file(directory.write("a.safetensors", input));
    for (const StoredTensor& tensor : file.tensors()) {
        expect(tensor.begin <= tensor.end && tensor.end <= input.size(), "tensors lie in the file");
        expect(file.find(tensor.name) == &tensor, "a tensor is found by its name");
        std::vector<float> values(std::min<uint64_t>(tensor.elems(), 100));
        try {
            file.read(tensor, tensor.elems() - values.size(), values);
        } catch (const Error&) {
            // of another type than float
        }
    }
}

void fuzz_gguf(std::string_view input) {
    static const TempDirectory directory;
    const StoredModel model = open_gguf(directory.write("a.gguf", input));
    size_t elems = 0;
    for (const TensorSpec& spec : param_table(model.config)) {
        elems += spec.elems();
        expect(elems <= 2 * input.size(), "every weight has at least four bits in the file");
        std::vector<float> values(spec.elems());
        model.read(spec, values);
    }
}

void fuzz_config_json(std::string_view input) {
    const ModelConfig config = parse_hf_config(parse_json(input, "input"), "input");
    expect(parse_model(describe(config)) == config, "a descriptor describes the whole model");
    expect(parse_hf_config(hf_config(config, nullptr), "saved") == config, "a saved copy is the same model");
}

void fuzz_trainer_state(std::string_view input) {
    const TrainerState state = parse_trainer_state(input, "input");
    const std::string saved = state.to_json().dump();
    expect(parse_trainer_state(saved, "saved").to_json().dump() == saved, "saved twice, the same");
}

void fuzz_manifest(std::string_view input) {
    static const TempDirectory directory;
    directory.write("manifest.json", input);
    verify_manifest(directory.path(), true);
}

void fuzz_metrics(std::string_view input) {
    static const TempDirectory directory;
    directory.write("metrics.jsonl", input);
    expect(!find_invalid_utf8(loss_svg({}, std::string(input))), "a title of any bytes is UTF-8");
    const std::string svg = loss_svg(read_loss_curve(directory.path()), "");
    expect(svg.size() < 500000, "the picture is bounded");
    expect(svg.find("nan") == svg.npos && svg.find("inf") == svg.npos, "coordinates are finite");
}

// Parses these arguments as the trainers do. What is accepted and printed as a file is read back as the same.
void use_options(const std::vector<std::string>& args) {
    static const TempDirectory directory;
    TrainOptions options, again;
    OptionSet set("train_gpt2", "", {}), reader("train_gpt2", "", {});
    add_train_options(set, options);
    add_train_options(reader, again);
    if (!set.parse(args)) return;
    const std::string saved = set.to_toml();
    expect(reader.parse({"--config", directory.write("saved.toml", saved)}), "a printed file is read");
    expect(reader.to_toml() == saved, "printed twice, the same");
}

void fuzz_config_toml(std::string_view input) {
    static const TempDirectory directory;
    use_options({"--config", directory.write("config.toml", input)});
}

// Arguments with a NUL between.
void fuzz_options(std::string_view input) {
    std::vector<std::string> args;
    while (!input.empty()) {
        const size_t end = std::min(input.find('\0'), input.size());
        args.emplace_back(input.substr(0, end));
        input.remove_prefix(std::min(end + 1, input.size()));
    }
    const std::ostringstream ignored;  // in place of standard output, for --help
    std::streambuf* const before = std::cout.rdbuf(ignored.rdbuf());
    const std::unique_ptr<std::streambuf, void (*)(std::streambuf*)> restore(
        before, [](std::streambuf* buffer) { std::cout.rdbuf(buffer); });
    use_options(args);
}

// Every value of a model; together they are no more than its file holds.
void read_model(const StoredModel& model, size_t file_bytes) {
    expect(parse_model(describe(model.config)) == model.config, "a descriptor describes the whole model");
    expect(size_t(count_parameters(model.config)) <= file_bytes, "tensors lie in the file");
    std::vector<float> values;
    for (const TensorSpec& spec : param_table(model.config)) {
        values.resize(spec.elems());
        model.read(spec, values);
    }
}

void fuzz_llmc_model(std::string_view input) {
    static const TempDirectory directory;
    read_model(open_llmc(directory.write("model.bin", input)), input.size());
}

// Training states and debug states, of a model with L 1, C 2, NH 1, V 3, max_T 2.
void fuzz_llmc_state(std::string_view input) {
    static const TempDirectory directory;
    static const LlmcModelFile model = [] {
        const int32_t header[256] = {20240326, 3, 2, 3, 1, 1, 2, 3};
        std::string file(reinterpret_cast<const char*>(header), sizeof header);
        file.resize(sizeof header + 88 * sizeof(float));
        return LlmcModelFile(directory.write("model.bin", file));
    }();
    const std::filesystem::path path = directory.write("state.bin", input);
    int32_t magic = 0;
    if (input.size() >= sizeof magic) std::memcpy(&magic, input.data(), sizeof magic);
    if (magic == 20240327) {
        const LlmcDebugState state = read_llmc_debug_state(path, model);
        expect(state.logits.size() * sizeof(float) <= input.size(), "logits lie in the file");
        return;
    }
    const LlmcStateFile state(path, model);
    std::vector<float> values;
    for (const char* arena : {"parameters", "moment1", "moment2"}) {
        for (const TensorSpec& spec : param_table(model.config())) {
            values.resize(spec.elems());
            state.state().read({arena}, spec.offset, values);
        }
    }
}

void fuzz_llmc_tokenizer(std::string_view input) {
    const Tokenizer tokenizer = parse_llmc_tokenizer(input, "input");
    const Tokenizer again = parse_llmc_tokenizer(write_llmc_tokenizer(tokenizer), "saved");
    use(tokenizer, &again);
}

void fuzz_llmc_evaluation(std::string_view input) {
    static const TempDirectory directory;
    size_t tokens = 0;
    for (const EvaluationExample& example : read_evaluation(directory.write("val.bin", input))) {
        expect(size_t(example.label) < example.completions.size(), "the label is a completion");
        tokens += example.context.size();
    }
    expect(tokens * sizeof(uint16_t) <= input.size(), "tokens lie in the file");
}

void fuzz_llama2c_model(std::string_view input) {
    static const TempDirectory directory;
    read_model(open_llama2c(directory.write("model.bin", input)), input.size());
}

void fuzz_llama2c_tokenizer(std::string_view input) {
    const Tokenizer tokenizer = parse_llama2c_tokenizer(input, "input");
    const Tokenizer again =
        parse_llama2c_tokenizer(write_llama2c_tokenizer(tokenizer, tokenizer.vocab_size()), "saved");
    use(tokenizer, &again);
}

}  // namespace

const FuzzTarget fuzz_targets[kFuzzTargets] = {{"tokenizer_json", fuzz_tokenizer_json},
                                               {"llmc_model", fuzz_llmc_model},
                                               {"llmc_state", fuzz_llmc_state},
                                               {"llmc_tokenizer", fuzz_llmc_tokenizer},
                                               {"llmc_evaluation", fuzz_llmc_evaluation},
                                               {"llama2c_model", fuzz_llama2c_model},
                                               {"llama2c_tokenizer", fuzz_llama2c_tokenizer},
                                               {"vocab_merges", fuzz_vocab_merges},
                                               {"tiktoken", fuzz_tiktoken},
                                               {"sentencepiece", fuzz_sentencepiece},
                                               {"regex_splitter", fuzz_regex_splitter},
                                               {"jsonl", fuzz_jsonl},
                                               {"csv", fuzz_csv},
                                               {"shard", fuzz_shard},
                                               {"safetensors", fuzz_safetensors},
                                               {"gguf", fuzz_gguf},
                                               {"config_json", fuzz_config_json},
                                               {"trainer_state", fuzz_trainer_state},
                                               {"manifest", fuzz_manifest},
                                               {"metrics", fuzz_metrics},
                                               {"config_toml", fuzz_config_toml},
                                               {"options", fuzz_options}};

}  // namespace kiln
