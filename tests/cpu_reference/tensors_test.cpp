#include "cpu_reference/interface/tensors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/support/tiny_models.h"

using namespace kiln;
using namespace kiln::testing;

TEST(ParamTable, is_dense_and_binds_where_it_says) {
    for (const TinyModel& model : tiny_models()) {
        const ModelConfig config = parse_model(model.descriptor);
        std::vector<float> arena(size_t(count_parameters(config)));
        const Params<float> params = bind_params(config, arena.data());
        size_t offset = 0;
        std::set<std::string> names;
        for (const TensorSpec& spec : param_table(config)) {
            EXPECT_EQ(spec.offset, offset) << spec.name;
            offset += spec.elems();
            EXPECT_TRUE(names.insert(spec.name).second) << spec.name << " occurs twice";
        }
        EXPECT_EQ(offset, arena.size());
        EXPECT_EQ(params.wte, arena.data());
        EXPECT_EQ(params.lm_head == params.wte, config.tied_embeddings);
        EXPECT_EQ(params.block.size(), size_t(config.L));
    }
}

TEST(ParamTable, holds_what_the_config_says_and_decays_matrices) {
    const auto has = [](const char* descriptor, const std::string& name) {
        const auto table = param_table(parse_model(descriptor));
        return std::ranges::any_of(table, [&](const TensorSpec& spec) { return spec.name == name; });
    };
    EXPECT_TRUE(has("gpt2", "wpe"));
    EXPECT_TRUE(has("gpt2", "block.11.ln2_b"));
    EXPECT_FALSE(has("gpt2", "lm_head"));
    EXPECT_FALSE(has("llama-tiny", "wpe"));
    EXPECT_FALSE(has("llama-tiny", "block.0.qkv_b"));
    EXPECT_TRUE(has("qwen2.5-0.5b", "block.0.qkv_b"));
    EXPECT_FALSE(has("qwen2.5-0.5b", "block.0.proj_b"));
    EXPECT_TRUE(has("qwen3-0.6b", "block.27.k_norm"));
    for (const TensorSpec& spec : param_table(parse_model("gpt2"))) {
        const bool matrix = spec.name.ends_with("_w") && spec.name.find("ln") == std::string::npos;
        EXPECT_EQ(spec.decays(), matrix || spec.name == "wte" || spec.name == "wpe") << spec.name;
    }
}

TEST(ParamTable, has_every_parameter_in_its_group) {
    for (const TensorSpec& spec : param_table(parse_model("gpt2:layers=1,tied=false"))) {
        const bool embedding = spec.name == "wte" || spec.name == "wpe", lm_head = spec.name == "lm_head";
        const ParamGroup group = embedding            ? ParamGroup::embedding
                                 : lm_head            ? ParamGroup::lm_head
                                 : spec.shape[1] == 1 ? ParamGroup::vector
                                                      : ParamGroup::matrix;
        EXPECT_EQ(spec.group, group) << spec.name;
        EXPECT_TRUE(spec.trainable) << spec.name;
    }
}

TEST(ActivationTable, matches_its_binding_and_is_aligned) {
    for (const TinyModel& model : tiny_models()) {
        for (const bool training : {true, false}) {
            const ModelConfig config = parse_model(model.descriptor);
            const ActivationShape shape{3, 5, training, 2};
            std::vector<float> arena(activation_elems(config, shape));
            const Activations<float> acts = bind_activations(config, shape, arena.data());
            size_t end = 0;
            for (const ActivationSpec& spec : activation_table(config, shape)) {
                EXPECT_GE(spec.offset, end) << spec.name << " overlaps";
                EXPECT_EQ(spec.offset % 16, 0u) << spec.name;
                end = spec.offset + spec.elems;
                const float* at = arena.data() + spec.offset;
                EXPECT_EQ(spec.name == "block.0.fc", acts.block[0].fc == at) << spec.name;
                EXPECT_EQ(spec.name == "logits", acts.logits == at) << spec.name;
            }
            EXPECT_LE(end, arena.size());
            EXPECT_EQ(acts.d_fc != nullptr, training);
            const auto& last = acts.block.back();
            EXPECT_EQ(last.fc == acts.block[0].fc, !training || config.L == 1) << "layers share without training";
        }
    }
}
