#include "tokenizer/data/shard.h"

#include <cstring>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

std::vector<int> tokens_of(const Shard& shard) {
    std::vector<int> tokens(shard.info().num_tokens);
    shard.copy(0, tokens.size(), tokens.data());
    return tokens;
}

// A file as llm.c's scripts write it: three header words, zeros, tokens.
template <class Token>
std::string llmc_shard(int32_t magic, int32_t version, const std::vector<Token>& tokens) {
    std::string bytes(kShardHeaderBytes, '\0');
    const int32_t words[] = {magic, version, int32_t(tokens.size())};
    std::memcpy(bytes.data(), words, sizeof words);
    bytes.append(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(Token));
    return bytes;
}

int32_t word(const std::string& bytes, int index) {
    int32_t value;
    std::memcpy(&value, bytes.data() + 4 * index, 4);
    return value;
}

class ShardFile : public testing::Test {
protected:
    ShardInfo small_info() {
        ShardInfo info;
        info.vocab_size = 1000;
        info.end_of_text = 999;
        info.num_documents = 2;
        info.index = 1;
        info.count = 3;
        for (size_t i = 0; i < 32; i++) info.tokenizer_sha256[i] = static_cast<unsigned char>(i * 5);
        return info;
    }
    // Writes a good shard and returns its bytes.
    std::string good() {
        write_shard(dir / "good.bin", std::vector<int>{999, 1, 2, 3, 999, 4}, small_info());
        return read_file(dir / "good.bin");
    }
    std::string error_opening(const std::string& bytes) {
        const auto path = dir.write("bad.bin", bytes);
        const std::string message = error_of([&] { Shard shard(path); });
        EXPECT_NE(message.find(path.string()), std::string::npos) << message;
        return message;
    }
    TempDirectory dir;
};

TEST_F(ShardFile, uint16_round_trips_with_its_header) {
    std::vector<int> tokens(5000);
    std::iota(tokens.begin(), tokens.end(), 60536);
    ShardInfo info = small_info();
    info.vocab_size = 65536;
    const ShardInfo written = write_shard(dir / "a.bin", tokens, info);
    EXPECT_EQ(std::filesystem::file_size(dir / "a.bin"), 1024u + 2 * 5000);
    const Shard shard(dir / "a.bin");
    EXPECT_EQ(tokens_of(shard), tokens);
    EXPECT_TRUE(shard.info().ours);
    EXPECT_EQ(shard.info().token_bytes, 2);
    EXPECT_EQ(shard.info().vocab_size, 65536);
    EXPECT_EQ(shard.info().end_of_text, 999);
    EXPECT_EQ(shard.info().num_documents, 2);
    EXPECT_EQ(shard.info().index, 1);
    EXPECT_EQ(shard.info().count, 3);
    EXPECT_EQ(shard.info().payload_xxh3, written.payload_xxh3);
    EXPECT_EQ(shard.info().tokenizer_sha256, info.tokenizer_sha256);
    shard.verify();
}

TEST_F(ShardFile, one_id_more_than_65536_makes_uint32) {
    ShardInfo info = small_info();
    info.vocab_size = 65537;
    write_shard(dir / "a.bin", std::vector<int>{0, 65536, 7}, info);
    EXPECT_EQ(std::filesystem::file_size(dir / "a.bin"), 1024u + 4 * 3);
    const Shard shard(dir / "a.bin");
    EXPECT_EQ(tokens_of(shard), (std::vector<int>{0, 65536, 7}));
    EXPECT_EQ(shard.info().token_bytes, 4);
    shard.verify();
}

TEST_F(ShardFile, layout_is_the_one_llmc_reads) {
    const std::string bytes = good();
    EXPECT_EQ(word(bytes, 0), 20240520);
    EXPECT_EQ(word(bytes, 1), 1);
    EXPECT_EQ(word(bytes, 2), 6);
    EXPECT_EQ(bytes.substr(12, 4), "KILN");
    EXPECT_EQ(bytes.substr(1024), std::string("\xe7\x03\x01\0\x02\0\x03\0\xe7\x03\x04\0", 12));
    ShardInfo info = small_info();
    info.vocab_size = 128256;
    write_shard(dir / "wide.bin", std::vector<int>{1}, info);
    EXPECT_EQ(word(read_file(dir / "wide.bin"), 0), 20240801);
    EXPECT_EQ(word(read_file(dir / "wide.bin"), 1), 7);
}

TEST_F(ShardFile, llmc_shards_are_read) {
    const Shard narrow(dir.write("n.bin", llmc_shard<uint16_t>(20240520, 1, {50256, 5, 65535})));
    EXPECT_EQ(tokens_of(narrow), (std::vector<int>{50256, 5, 65535}));
    EXPECT_FALSE(narrow.info().ours);
    narrow.verify();
    const Shard wide(dir.write("w.bin", llmc_shard<uint32_t>(20240801, 7, {128000, 5})));
    EXPECT_EQ(tokens_of(wide), (std::vector<int>{128000, 5}));
}

TEST_F(ShardFile, missing_directory_empty_and_short_files_are_errors) {
    EXPECT_NE(error_of([&] { Shard shard(dir / "none.bin"); }).find("No such file"), std::string::npos);
    EXPECT_NE(error_of([&] { Shard shard(dir.path()); }).find("is a directory"), std::string::npos);
    EXPECT_NE(error_opening("").find("is empty"), std::string::npos);
    EXPECT_NE(error_opening(std::string(1023, 'x')).find("1023 bytes are fewer than its header"), std::string::npos);
}

TEST_F(ShardFile, foreign_magic_and_version_are_errors) {
    EXPECT_NE(error_opening(std::string(4096, 'x')).find("not a shard"), std::string::npos);
    EXPECT_NE(error_opening(llmc_shard<uint16_t>(20240326, 3, {1})).find("an llm.c model"), std::string::npos);
    EXPECT_NE(error_opening(llmc_shard<uint16_t>(20240520, 2, {1})).find("version 2, but only version 1"),
              std::string::npos);
    EXPECT_NE(error_opening(llmc_shard<uint32_t>(20240801, 1, {1})).find("version 1, but only version 7"),
              std::string::npos);
}

TEST_F(ShardFile, size_that_does_not_match_the_count_is_an_error) {
    const std::string bytes = good();
    for (size_t cut = 1; cut <= 12; cut++)
        EXPECT_NE(error_opening(bytes.substr(0, bytes.size() - cut)).find("truncated"), std::string::npos) << cut;
    EXPECT_NE(error_opening(bytes + "x").find("bytes after its end"), std::string::npos);
    std::string llmc = llmc_shard<uint16_t>(20240520, 1, {1, 2, 3});
    const int32_t huge = INT32_MAX, negative = -1;
    std::memcpy(llmc.data() + 8, &huge, 4);
    EXPECT_NE(error_opening(llmc).find("truncated"), std::string::npos);
    std::memcpy(llmc.data() + 8, &negative, 4);
    EXPECT_NE(error_opening(llmc).find("claims -1 tokens"), std::string::npos);
}

// Every bit of the header's words and of the payload, and some of the padding between: no flip passes both the
// constructor and verify().
TEST_F(ShardFile, any_flipped_bit_is_noticed) {
    const std::string bytes = good();
    for (size_t bit = 0; bit < bytes.size() * 8; bit++) {
        const bool padding = bit >= 21 * 32 && bit < 1024 * 8;
        if (padding && bit % 61 != 0) continue;
        std::string flipped = bytes;
        flipped[bit / 8] ^= char(1 << bit % 8);
        const auto path = dir.write("flipped.bin", flipped);
        ASSERT_NE(error_of([&] { Shard(path).verify(); }), "") << "bit " << bit;
    }
}

TEST_F(ShardFile, llmc_header_with_stray_words_is_an_error) {
    std::string bytes = llmc_shard<uint16_t>(20240520, 1, {1});
    bytes[500] = 1;
    EXPECT_NE(error_opening(bytes).find("damaged or foreign"), std::string::npos);
}

TEST_F(ShardFile, copy_beyond_the_end_is_an_error) {
    good();
    const Shard shard(dir / "good.bin");
    int out[2] = {};
    shard.copy(4, 2, out);
    EXPECT_EQ(out[1], 4);
    EXPECT_NE(error_of([&] { shard.copy(5, 2, out); }), "");
    EXPECT_NE(error_of([&] { shard.copy(UINT64_MAX, 2, out); }), "");
    EXPECT_NE(error_of([&] { shard.copy(1, SIZE_MAX, out); }), "");
}

TEST_F(ShardFile, write_refuses_tokens_outside_the_vocabulary) {
    const std::string message = error_of([&] {
        write_shard(dir / "a.bin", std::vector<int>{1, 2, 1000}, small_info());
    });
    EXPECT_NE(message.find("token 1000 at 2"), std::string::npos) << message;
    EXPECT_NE(error_of([&] { write_shard(dir / "a.bin", std::vector<int>{-1}, small_info()); }), "");
    EXPECT_FALSE(std::filesystem::exists(dir / "a.bin"));
}

// Long enough for several calls of write_behind(). It starts within a page, and is resumed once.
TEST_F(ShardFile, long_shard_holds_every_token_in_either_width) {
    for (const int vocab_size : {60'000, 70'000}) {
        ShardInfo info = small_info();
        info.vocab_size = vocab_size;
        std::vector<int> tokens(15'000'000);
        for (size_t i = 0; i < tokens.size(); i++) tokens[i] = int((i * 7919) % size_t(vocab_size));
        const std::span<const int> all(tokens);
        {
            ShardWriter writer(dir / "long.bin", vocab_size);
            writer.append(all.first(9'000'001));
            writer.sync();
        }
        ShardWriter writer = ShardWriter::resume(dir / "long.bin", vocab_size, 9'000'000);
        for (size_t at = 9'000'000, n = 1; at < tokens.size(); at += n, n = std::min(2 * n, tokens.size() - at)) {
            std::vector<unsigned char> packed;
            pack_tokens(all.subspan(at, n), vocab_size, packed);
            EXPECT_EQ(packed.size(), n * size_t(shard_token_bytes(vocab_size)));
            writer.append(packed);
        }
        EXPECT_EQ(writer.finish(info).num_tokens, tokens.size());
        const Shard shard(dir / "long.bin");
        shard.verify();
        std::vector<int> back(tokens.size());
        shard.copy(0, back.size(), back.data());
        EXPECT_TRUE(back == tokens);
    }
}

TEST_F(ShardFile, set_shard_count_keeps_everything_else) {
    ShardInfo info = small_info();
    info.count = 0;
    const std::vector<int> tokens{999, 1, 2, 3, 999, 4};
    write_shard(dir / "a.bin", tokens, info);
    set_shard_count(dir / "a.bin", 3);
    good();
    EXPECT_EQ(read_file(dir / "a.bin"), read_file(dir / "good.bin"));
    const auto llmc = dir.write("n.bin", llmc_shard<uint16_t>(20240520, 1, {1}));
    EXPECT_NE(error_of([&] { set_shard_count(llmc, 2); }), "");
}

// The shard may be partial, longer than the saved state, or finished.
TEST_F(ShardFile, partial_shard_is_resumed) {
    std::vector<int> tokens(300'000);
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = int(i % 997);
    const std::span<const int> all(tokens);
    write_shard(dir / "whole.bin", tokens, small_info());
    for (const bool finished : {false, true}) {
        {
            ShardWriter writer(dir / "a.bin", 1000);
            writer.append(all.first(200'000));
            writer.sync();
            writer.append(all.first(50'000));  // other tokens than those after resuming
            if (finished) {
                writer.finish(small_info());
            } else {
                writer.sync();
            }
        }
        EXPECT_EQ(std::filesystem::exists(dir / "a.bin"), finished);
        ShardWriter writer = ShardWriter::resume(dir / "a.bin", 1000, 200'000);
        EXPECT_FALSE(std::filesystem::exists(dir / "a.bin"));
        writer.append(all.subspan(200'000));
        writer.finish(small_info());
        EXPECT_TRUE(read_file(dir / "a.bin") == read_file(dir / "whole.bin"));
        EXPECT_NE(
            error_of([&] { ShardWriter::resume(dir / "a.bin", 1000, 300'001); }).find("where 601026 were written"),
            std::string::npos);
        EXPECT_NE(error_of([&] { ShardWriter::resume(dir / "none.bin", 1000, 1); }).find("none.bin"),
                  std::string::npos);
        std::filesystem::remove(dir / "a.bin.partial");
    }
}

}  // namespace
}  // namespace kiln
