// The optimizer state in one file, and in one of each rank.
#include "tools/checkpoint/optimizer_state.h"

#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/divided_engine.h"
#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class OptimizerParts : public testing::Test {
protected:
    ModelState state_of(DividedEngine& engine, int rank, int ranks) {
        engine.fill(1);
        return {engine.config(),
                engine.optimizer(),
                {rank, ranks, engine.own_state()},
                [&engine](const Arena& arena, size_t offset, std::span<float> out) {
                    engine.read_own_state(arena, offset, out);
                }};
    }
    void write(int ranks) {
        for (int rank = 0; rank < ranks; rank++) {
            DividedEngine engine(config_, rank, ranks);
            write_optimizer(directory_.path(), state_of(engine, rank, ranks));
        }
    }
    std::string error_of_reading() {
        return error_of([&] {
            FakeEngine engine(config_);
            read_optimizer(directory_.path(), engine);
        });
    }
    void expect_refused(const std::string& message) {
        const std::string error = error_of_reading();
        EXPECT_NE(error.find(message), std::string::npos) << error;
    }
    fs::path part(int rank, int ranks) { return directory_ / optimizer_file(rank, ranks); }

    const ModelConfig config_ = parse_model("llama:layers=2,dim=8,heads=2,ffn=16,vocab=33,ctx=8");
    const TempDirectory directory_;
};

TEST_F(OptimizerParts, of_any_number_of_ranks_are_read_as_the_whole_state) {
    // Of 99 ranks some have nothing.
    for (const int ranks : {1, 2, 3, 99}) {
        write(ranks);
        EXPECT_EQ(open_optimizer(directory_.path()).size(), size_t(ranks));
        FakeEngine expected(config_), read(config_);
        expected.fill(1);
        read_optimizer(directory_.path(), read);
        for (const std::string_view state : optimizer_info(Optimizer::adamw).states) {
            EXPECT_EQ(read.arena({state}), expected.arena({state})) << ranks;
        }
        verify_optimizer(directory_.path());
        for (int rank = 0; rank < ranks; rank++) fs::remove(part(rank, ranks));
    }
}

TEST_F(OptimizerParts, that_are_missing_or_there_twice_are_refused) {
    expect_refused("has no optimizer.safetensors");
    write(3);
    fs::rename(part(2, 3), directory_ / "kept");
    expect_refused("optimizer-00003-of-00003.safetensors");
    fs::copy_file(part(0, 3), part(2, 3));
    expect_refused("of 'moment1.wte', which has 264 elements, those from 0 on are there twice");
    fs::remove(part(2, 3));
    SafetensorsWriter(part(2, 3), {}).finish();
    expect_refused("of 'moment1.wte', which has 264 elements, those from 154 on are missing");
    fs::rename(directory_ / "kept", part(2, 3));
    EXPECT_EQ(error_of_reading(), "");
    fs::rename(part(0, 3), directory_ / "optimizer-00001-of-3.safetensors");
    expect_refused("optimizer-00001-of-3.safetensors: is not named as a part");
}

TEST_F(OptimizerParts, with_names_that_do_not_fit_are_refused) {
    for (const char* name : {"moment1.wte[0:4", "moment1.wte[4:0]", "moment1.wte[0:5]", "moment1.wte[:4]",
                             "moment1.wte[0-4]", "moment1.wte[0:4]]", "moment1.wte[", "moment1.wte[-1:3]",
                             "moment1.wte[18446744073709551615:3]", "moment1.wte[99999999999999999999:3]"}) {
        write(2);
        SafetensorsWriter writer(part(1, 2), {{name, {4}}});
        writer.append(std::vector<float>(4));
        writer.finish();
        expect_refused(concat("tensor '", name, "' does not have the elements that its name says"));
    }
    write(2);
    SafetensorsWriter writer(part(1, 2), {{"moment1.wte[77:9999]", {9922}}});
    writer.append(std::vector<float>(9922));
    writer.finish();
    expect_refused("those from 77 on are there twice or are too many");
}

}  // namespace
}  // namespace kiln
