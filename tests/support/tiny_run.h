#pragma once
// A small run directory: a tokenizer, shards, and a checkpoint of an untrained model.

#include "cpu_reference/interface/engine.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/bpe/trainer.h"
#include "tokenizer/data/shard.h"
#include "tokenizer/data/shard_index.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/tokenizer.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/train/trainer_state.h"

namespace kiln {

inline constexpr char kTinyText[] = "the quick brown fox jumps over the lazy dog\n床前明月光，疑是地上霜。\n";

class TinyRun {
public:
    explicit TinyRun(const std::string& model = "llama:layers=1,dim=32,heads=4,kv_heads=2,ffn=48,ctx=24,tied=1") {
        BpeTrainer trainer({.vocab_size = 280, .special_tokens = {"<|endoftext|>"}});
        trainer.add_text(kTinyText, "text");
        const Tokenizer tokenizer = trainer.train();
        std::filesystem::create_directories(data());
        tokenizer.save(data());
        V = tokenizer.vocab_size();

        std::vector<int> tokens;
        for (int i = 0; i < 5; i++) {
            tokens.push_back(tokenizer.end_of_text());
            for (const int id : tokenizer.encode(kTinyText)) tokens.push_back(id);
            text_bytes += sizeof(kTinyText) - 1;
        }
        const ShardInfo info =
            write_shard(data() / "val_000000.bin", tokens,
                        {.vocab_size = V, .end_of_text = tokenizer.end_of_text(), .num_documents = 5, .count = 1});
        num_tokens = int64_t(tokens.size());
        ShardIndex index;
        index.val = {{{"val_000000.bin", info.num_tokens, 5, hex(info.payload_xxh3)}}, info.num_tokens, 5, text_bytes};
        const std::string json = tokenizer.to_json();
        index.tokenizer_xxh3["tokenizer.json"] = hex(xxh3_64(json.data(), json.size()));
        index.vocab_size = V, index.end_of_text = tokenizer.end_of_text();
        write_shard_index(data(), index);

        config = parse_model(model + ",vocab=" + std::to_string(V));
        const auto engine = make_engine(config, {.B = 1, .T = 1});
        engine->init_weights(1);
        TrainerState state;
        state.progress.step = 10, state.progress.updates = 9, state.progress.position = 40;
        state.model = describe(config), state.T = config.max_T, state.train_tokens = uint64_t(num_tokens);
        checkpoint = save_checkpoint(run(), 10, *engine, state.to_json(), ModelFiles(data(), {}));
    }

    std::filesystem::path data() const { return directory / "data"; }
    std::filesystem::path run() const { return directory / "run"; }

    TempDirectory directory;
    std::filesystem::path checkpoint;
    ModelConfig config;
    int V = 0;
    int64_t num_tokens = 0;
    uint64_t text_bytes = 0;
};

}  // namespace kiln
