#include "tokenizer/data/dataloader.h"

#include <chrono>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <set>
#include <thread>

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "tests/support/temp_directory.h"
#include "tokenizer/data/permutation.h"
#include "tokenizer/data/shard.h"

namespace kiln {
namespace {

using Row = std::vector<int>;  // T tokens and the last target

TEST(Permutation, is_a_bijection_for_many_sizes_seeds_and_epochs) {
    std::vector<uint64_t> sizes(300);
    std::iota(sizes.begin(), sizes.end(), 1);
    for (const uint64_t n : {1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536, 65537, 1'000'003}) sizes.push_back(n);
    for (const uint64_t n : sizes) {
        for (uint64_t seed = 0; seed < (n < 1000 ? 5u : 1u); seed++) {
            const Permutation permutation(n, seed, seed * 3);
            std::vector<bool> seen(n);
            for (uint64_t i = 0; i < n; i++) {
                const uint64_t to = permutation(i);
                ASSERT_LT(to, n);
                ASSERT_FALSE(seen[to]) << "n " << n << " seed " << seed << ": " << to << " twice";
                seen[to] = true;
            }
        }
    }
}

TEST(Permutation, holds_up_to_two_to_the_sixty_two) {
    const uint64_t n = (uint64_t(1) << 62) + 12345;
    const Permutation permutation(n, 1, 2);
    std::set<uint64_t> seen;
    for (uint64_t i = 0; i < 1000; i++) seen.insert(permutation(n - 1 - i));
    EXPECT_EQ(seen.size(), 1000u);
    EXPECT_LT(*seen.rbegin(), n);
}

TEST(Permutation, depends_on_seed_and_on_epoch) {
    const Permutation a(1000, 1, 0), b(1000, 2, 0), c(1000, 1, 1);
    int same_b = 0, same_c = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        same_b += a(i) == b(i);
        same_c += a(i) == c(i);
    }
    // The number of fixed points between two random permutations is Poisson(1): more than 12 once in 10^10.
    EXPECT_LE(same_b, 12);
    EXPECT_LE(same_c, 12);
}

// Over many epochs each element comes first equally often: chi-square with n - 1 degrees of freedom.
TEST(Permutation, every_element_comes_first_equally_often) {
    for (const uint64_t n : {2u, 3u, 7u, 16u, 100u}) {
        const int draws = 20000;
        std::vector<int> count(n);
        for (int epoch = 0; epoch < draws; epoch++) count[Permutation(n, 5, uint64_t(epoch))(0)]++;
        double chi2 = 0;
        const double expected = double(draws) / double(n);
        for (const int c : count) chi2 += (c - expected) * (c - expected) / expected;
        const double freedom = double(n - 1);
        EXPECT_LT(chi2, freedom + 5 * std::sqrt(2 * freedom) + 8) << "n " << n;  // 5 sigma, and the small n's tail
    }
}

// Neighbours must not stay neighbours: the mean distance of consecutive outputs is n / 3 for a random order.
TEST(Permutation, scatters_neighbours) {
    const uint64_t n = 100'000;
    const Permutation permutation(n, 9, 0);
    double sum = 0;
    for (uint64_t i = 0; i + 1 < n; i++) sum += std::fabs(double(permutation(i)) - double(permutation(i + 1)));
    // The distance has deviation n / sqrt(18); 5 sigma of the mean of n of them.
    EXPECT_NEAR(sum / double(n - 1), double(n) / 3, 5 * double(n) / std::sqrt(18.0 * double(n)));
}

// A resumed run relies on this order: it may never change.
TEST(Permutation, order_is_pinned) {
    const Permutation permutation(10, 42, 0);
    std::vector<uint64_t> order;
    for (uint64_t i = 0; i < 10; i++) order.push_back(permutation(i));
    EXPECT_EQ(order, (std::vector<uint64_t>{4, 1, 5, 7, 2, 8, 3, 6, 0, 9}));
}

// The tokens count up through all shards, so each token tells where it is from.
class DataLoaderTest : public testing::Test {
protected:
    static constexpr int kVocab = 60000, kWideVocab = 70000;

    std::filesystem::path add_shard(int num_tokens, int vocab = kVocab) {
        std::vector<int> tokens(static_cast<size_t>(num_tokens));
        std::iota(tokens.begin(), tokens.end(), next_token);
        next_token += num_tokens;
        ShardInfo info;
        info.vocab_size = vocab;
        const auto path = dir / ("train_" + std::to_string(options.shards.size()) + ".bin");
        write_shard(path, tokens, info);
        options.shards.push_back(path);
        return path;
    }

    // The rows of the next `batches` batches, checked for targets = tokens shifted by one.
    std::vector<Row> take(DataLoader& loader, int batches, const DataLoaderOptions& o) {
        std::vector<Row> rows;
        for (int i = 0; i < batches; i++) {
            const DataLoader::Rows got = loader.next();
            for (int b = 0; b < o.B; b++) {
                Row row(got.tokens + b * o.T, got.tokens + (b + 1) * o.T);
                EXPECT_TRUE(std::equal(row.begin() + 1, row.end(), got.targets + b * o.T));
                row.push_back(got.targets[(b + 1) * o.T - 1]);
                rows.push_back(std::move(row));
            }
        }
        return rows;
    }

    std::vector<Row> take(int batches, const DataLoaderOptions& o, uint64_t from = 0) {
        DataLoader loader(o);
        if (from > 0) loader.seek(from);
        return take(loader, batches, o);
    }

    TempDirectory dir;
    int next_token = 0;
    DataLoaderOptions options;
};

TEST_F(DataLoaderTest, unshuffled_rows_follow_the_files) {
    add_shard(11);  // (11 - 1) / 3: 3 sequences of 3
    add_shard(3);   // none: it has no 4 tokens
    add_shard(4);   // 1
    options.B = 2;
    options.T = 3;
    options.shuffle = false;
    DataLoader loader(options);
    EXPECT_EQ(loader.num_sequences(), 4u);
    EXPECT_EQ(loader.num_tokens(), 18u);
    const std::vector<Row> expected = {{0, 1, 2, 3}, {3, 4, 5, 6}, {6, 7, 8, 9}, {14, 15, 16, 17}};
    EXPECT_EQ(take(loader, 2, options), expected);
    EXPECT_EQ(take(loader, 2, options), expected);  // every epoch alike
}

TEST_F(DataLoaderTest, uint32_shards_are_read) {
    next_token = 65530;
    add_shard(13, kWideVocab);
    options.B = 3;
    options.T = 4;
    options.shuffle = false;
    options.vocab_size = kWideVocab;
    EXPECT_EQ(take(1, options).back(), (Row{65538, 65539, 65540, 65541, 65542}));
}

TEST_F(DataLoaderTest, an_epoch_shows_every_sequence_once_and_the_next_reorders) {
    for (const int tokens : {101, 58, 333}) add_shard(tokens);
    options.B = 1;
    for (const int T : {1, 7, 32, 57}) {
        options.T = T;
        DataLoader loader(options);
        const int N = int(loader.num_sequences());
        EXPECT_EQ(N, 100 / T + 57 / T + 332 / T);
        const std::vector<Row> first = take(loader, N, options), second = take(loader, N, options);
        const std::set<Row> a(first.begin(), first.end()), b(second.begin(), second.end());
        EXPECT_EQ(int(a.size()), N);
        EXPECT_EQ(a, b);
        EXPECT_NE(first, second) << "T " << T;
    }
}

TEST_F(DataLoaderTest, seeds_order_differently_and_repeatably) {
    add_shard(1000);
    options.T = 5;
    const auto a = take(20, options);
    EXPECT_EQ(take(20, options), a);
    options.seed = 1;
    EXPECT_NE(take(20, options), a);
}

TEST_F(DataLoaderTest, ranks_share_out_the_same_global_batches) {
    add_shard(700);
    add_shard(300);
    const int T = 6, rows = 8, steps = 50;  // 165 sequences: three epochs
    options.T = T;
    options.B = rows;
    const std::vector<Row> whole = take(steps, options);
    for (const int world : {2, 4}) {
        options.B = rows / world;
        options.world = world;
        std::vector<std::vector<Row>> parts;
        for (options.rank = 0; options.rank < world; options.rank++) parts.push_back(take(steps, options));
        for (int step = 0; step < steps; step++) {
            for (int row = 0; row < rows; row++) {
                const Row& got = parts[size_t(row / options.B)][size_t(step * options.B + row % options.B)];
                ASSERT_EQ(got, whole[size_t(step * rows + row)]) << world << " ranks, step " << step;
            }
        }
    }
}

TEST_F(DataLoaderTest, first_sample_and_position_count_global_rows) {
    add_shard(500);
    options.B = 3;
    options.T = 4;
    options.rank = 1;
    options.world = 2;
    DataLoader loader(options);
    EXPECT_EQ(loader.position(), 0u);
    EXPECT_EQ(loader.next().first_sample, 3u);
    EXPECT_EQ(loader.position(), 6u);
    EXPECT_EQ(loader.next().first_sample, 9u);
    loader.seek(600);
    EXPECT_EQ(loader.position(), 600u);
    EXPECT_EQ(loader.next().first_sample, 603u);
}

TEST_F(DataLoaderTest, position_alone_resumes_exactly) {
    add_shard(777);
    options.B = 4;
    options.T = 9;  // 86 sequences: an epoch ends within a batch
    const int steps = 70;
    const std::vector<Row> unbroken = take(steps, options);
    for (int stop = 0; stop < steps; stop += 3) {
        const std::vector<Row> resumed = take(steps - stop, options, uint64_t(stop) * 4);
        const std::vector<Row> expected(unbroken.begin() + stop * 4, unbroken.end());
        ASSERT_EQ(resumed, expected) << "resumed at " << stop;
    }
}

TEST_F(DataLoaderTest, seek_while_batches_are_being_fetched_is_exact) {
    add_shard(5000);
    options.B = 2;
    options.T = 8;
    options.prefetch = 3;
    DataLoaderOptions plain = options;
    plain.prefetch = 0;
    DataLoader ahead(options), direct(plain);
    for (uint64_t i = 0; i < 500; i++) {
        const uint64_t to = i * 37 % 1000;
        ahead.seek(to);
        direct.seek(to);
        ASSERT_EQ(take(ahead, int(i % 4), options), take(direct, int(i % 4), plain)) << i;
    }
}

TEST_F(DataLoaderTest, rows_stay_valid_until_the_next_call) {
    add_shard(5000);
    options.B = 2;
    options.T = 100;
    options.shuffle = false;
    DataLoader loader(options);
    for (int i = 0; i < 20; i++) {
        const DataLoader::Rows rows = loader.next();
        const int first = i * 200 % 4900;
        std::this_thread::sleep_for(std::chrono::milliseconds(1));  // time for the thread to overwrite them
        ASSERT_EQ(rows.tokens[0], first);
        ASSERT_EQ(rows.targets[99], first + 100);
    }
}

TEST_F(DataLoaderTest, moved_loader_continues) {
    add_shard(100);
    options.T = 4;
    DataLoader a(options);
    a.next();
    DataLoader b(std::move(a));
    EXPECT_EQ(b.position(), 4u);
    EXPECT_EQ(b.next().first_sample, 4u);
}

TEST_F(DataLoaderTest, too_few_tokens_says_how_many_and_what_to_do) {
    add_shard(50);
    options.T = 50;
    const std::string message = error_of([&] { DataLoader loader(options); });
    EXPECT_NE(message.find("a sequence of 50 needs 51 tokens"), std::string::npos) << message;
    EXPECT_NE(message.find("has 50; shorten the sequences (-t 49 at most)"), std::string::npos) << message;
    options.T = 49;
    EXPECT_EQ(DataLoader(options).num_sequences(), 1u);
}

TEST_F(DataLoaderTest, empty_shards_are_an_error) {
    add_shard(0);
    EXPECT_NE(error_of([&] { DataLoader loader(options); }).find("has 0; give more data"), std::string::npos);
    options.shards.clear();
    EXPECT_NE(error_of([&] { DataLoader loader(options); }).find("no shards"), std::string::npos);
}

TEST_F(DataLoaderTest, vocabulary_of_the_shard_must_fit_the_model) {
    add_shard(100);
    options.vocab_size = 512;
    const std::string message = error_of([&] { DataLoader loader(options); });
    EXPECT_NE(message.find("made with a vocabulary of 60000, the model has 512"), std::string::npos) << message;
    options.vocab_size = kVocab;
    DataLoader loader(options);  // just fits
}

// llm.c's shards do not have the size of the vocabulary, so each token is checked.
TEST_F(DataLoaderTest, token_outside_the_vocabulary_names_shard_and_position) {
    for (const int prefetch : {0, 2}) {
        for (const size_t bad : {size_t(0), size_t(5), size_t(12)}) {
            std::string bytes(1024 + 2 * 13, '\0');
            const int32_t words[] = {20240520, 1, 13};
            std::memcpy(bytes.data(), words, sizeof words);
            bytes[1024 + 2 * bad] = 100;
            options.shards = {dir.write("llmc.bin", bytes)};
            options.B = 1;
            options.T = 4;
            options.shuffle = false;
            options.vocab_size = 100;
            options.prefetch = prefetch;
            DataLoader loader(options);
            const std::string message = error_of([&] {
                for (int i = 0; i < 3; i++) loader.next();
            });
            EXPECT_NE(message.find("llmc.bin: token 100 at position " + std::to_string(bad) + " "), std::string::npos)
                << message;
            EXPECT_EQ(error_of([&] { loader.next(); }), message);  // each call throws it again
            options.vocab_size = 101;
            take(3, options);
        }
    }
}

TEST_F(DataLoaderTest, shards_of_two_tokenizers_are_an_error) {
    add_shard(100);
    ShardInfo info;
    info.vocab_size = kVocab;
    info.tokenizer_sha256[0] = 1;
    options.shards.push_back(dir / "other.bin");
    write_shard(options.shards.back(), std::vector<int>(100, 1), info);
    EXPECT_NE(error_of([&] { DataLoader loader(options); }).find("made with another tokenizer"), std::string::npos);
}

TEST_F(DataLoaderTest, a_flipped_bit_is_noticed_before_or_during_training) {
    const auto path = add_shard(1000);
    std::string bytes = read_file(path);
    bytes[1024 + 999] ^= 1;
    write_file_atomic(path, bytes);
    const std::string expected = path.string() + ": the tokens do not match their checksum";
    EXPECT_TRUE(error_of([&] { DataLoader loader(options); }).starts_with(expected));
    options.verify_first_bytes = 0;
    DataLoader loader(options);
    EXPECT_TRUE(error_of([&] {
                    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
                    while (std::chrono::steady_clock::now() < end) loader.next();
                }).starts_with(expected));
}

// What happens to a shard while a loader reads it. Nothing may end the process (a mapped file would: SIGBUS).
TEST_F(DataLoaderTest, a_shard_that_changes_is_an_error_that_names_it) {
    for (const int vocab : {kVocab, kWideVocab}) {
        for (const int prefetch : {0, 2}) {
            next_token = 0;
            options.shards.clear();
            options.prefetch = prefetch;
            add_shard(10000, vocab);
            const auto path = add_shard(10000, vocab);
            const std::string whole = read_file(path);
            const auto error_after = [&](const std::function<void()>& change) {
                write_file_atomic(path, whole);
                DataLoader loader(options);
                loader.next();
                change();
                return error_of([&] {
                    for (int i = 0; i < 200; i++) loader.next();
                });
            };
            const std::string changed = path.string() + ": was changed while it was being read";
            // The kernel sets the time of a file before its size. The thread that prefetches may look between the two,
            // and then it cannot say how the size changed.
            const auto expect_resized = [&](const std::string& message, const std::string& how) {
                EXPECT_TRUE(message.starts_with(path.string() + how) || (prefetch && message.starts_with(changed)))
                    << message;
            };
            for (const size_t bytes : {size_t(0), size_t(1000), whole.size() / 2, whole.size() - 1}) {
                expect_resized(
                    error_after([&] { std::filesystem::resize_file(path, bytes); }),
                    concat(": was truncated from ", whole.size(), " to ", bytes, " bytes while it was being read"));
            }
            expect_resized(error_after([&] { OutputFile::append(path).write("x"); }), ": grew from");
            const std::string rewritten = error_after([&] { OutputFile::update(path).write_at(5000, "xy", 2); });
            EXPECT_TRUE(rewritten.starts_with(changed)) << rewritten;
            EXPECT_EQ(error_after([&] { write_file_atomic(path, "another file"); }), "");  // the old one is still open
            EXPECT_EQ(error_after([&] { std::filesystem::remove(path); }), "");
        }
    }
}

TEST_F(DataLoaderTest, more_shards_than_descriptors_are_read) {
    const auto first = add_shard(17);
    options.T = 16;
    options.B = 1;
    for (int i = 1; i < 2000; i++) {
        options.shards.push_back(dir / concat("link_", i, ".bin"));
        std::filesystem::create_hard_link(first, options.shards.back());
    }
    rlimit before{};
    ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit few{256, before.rlim_max};
    ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
    DataLoader loader(options);
    const std::vector<Row> rows = take(loader, 2000, options);
    Row expected(17);
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(std::ranges::count(rows, expected), 2000);
    OutputFile::update(first).write_at(1024, "xy", 2);  // of files that are not kept open too
    EXPECT_NE(error_of([&] { take(loader, 2000, options); }), "");
    setrlimit(RLIMIT_NOFILE, &before);
}

TEST_F(DataLoaderTest, impossible_options_are_errors) {
    add_shard(100);
    options.rank = 1;
    EXPECT_NE(error_of([&] { DataLoader loader(options); }).find("rank 1 of 1"), std::string::npos);
    options.rank = 0;
    options.B = 0;
    EXPECT_NE(error_of([&] { DataLoader loader(options); }), "");
}

}  // namespace
}  // namespace kiln
