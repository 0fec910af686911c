// kiln prepare: the shards that it makes of its input.
#include <cmath>

#include <unistd.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/prepare_fixture.h"
#include "tokenizer/io/sha256.h"
#include "tokenizer/prepare/split_writer.h"

namespace kiln {
namespace {

TEST_F(Prepare, documents_come_back_in_order_each_after_end_of_text) {
    const Texts documents = many(15000);  // several blocks for each thread
    input(documents);
    const ShardIndex index = prepare(options);
    EXPECT_TRUE(documents_of(found().train) == documents);
    EXPECT_TRUE(found().val.empty());
    EXPECT_EQ(index.train.documents, 15000u);
    EXPECT_EQ(index.train.tokens, tokens_of(found().train).size());
    size_t bytes = 0;
    for (const std::string& document : documents) bytes += document.size();
    EXPECT_EQ(index.train.text_bytes, bytes);
    EXPECT_EQ(read_shard_index(options.output).train.text_bytes, bytes);
}

TEST_F(Prepare, end_of_text_written_in_the_text_is_plain_text) {
    input({"a<|endoftext|>b"});
    EXPECT_EQ(prepare(options).train.documents, 1u);
    EXPECT_EQ(documents_of(found().train), Texts{"a<|endoftext|>b"});
}

TEST_F(Prepare, a_tokenizer_that_is_replaced_while_it_is_read_is_an_error) {
    input({"a document"}, "train.txt");
    options.inputs.push_back(dir.write("val.txt", "another one\n%\n"));  // so that the splits are reported
    BpeTrainer other({.vocab_size = 280, .special_tokens = {"<|endoftext|>"}});
    other.add_text("quite another text", "text");
    options.report = [&](const std::string&) { other.train().save(options.tokenizer, true); };
    EXPECT_NE(error().find("tokenizer: was replaced while it was read"), std::string::npos) << error();
    EXPECT_FALSE(std::filesystem::exists(options.output));  // so nothing that is there would be replaced
}

TEST_F(Prepare, a_separator_of_several_characters_divides_within_lines_and_records) {
    options.documents.separator = "<e>";
    options.force = true;
    const auto read = [&](const char* name, const std::string& text) {
        options.inputs = {dir.write(name, text).string()};
        prepare(options);
        return documents_of(found().train);
    };
    const Texts expected{"a\n\nb", " c", "d"};
    EXPECT_EQ(read("a.txt", "a\n\nb<e> c<e><e>\r\nd\n"), expected);
    EXPECT_EQ(read("a.jsonl", "{\"text\": \"a\\n\\nb<e> c<e>\"}\n{\"text\": \"<e>d\"}\n"), expected);
    const std::string longer = "one two three four five six seven eight";
    options.documents.chunk_bytes = 16;
    for (size_t block = 1; block < 12; ++block) {  // wherever a block ends
        options.documents.block_bytes = block;
        EXPECT_EQ(read("b.txt", longer + "<e>" + longer + "\n<e>\n" + longer), (Texts{longer, longer, longer}))
            << block;
    }
}

TEST_F(Prepare, threads_change_no_byte) {
    input(many(15000));
    options.val_fraction = 0.1;
    options.shard_tokens = 100'000;
    options.documents.chunk_bytes = 64;  // documents of several chunks too
    std::map<std::string, std::string> first;
    for (const int threads : {1, 2, 4}) {
        options.threads = threads;
        options.force = true;
        prepare(options);
        if (first.empty()) first = snapshot(options.output);
        EXPECT_EQ(difference(snapshot(options.output), first), "") << threads;
    }
    EXPECT_GT(first.size(), 8u);
}

TEST_F(Prepare, chunks_of_a_document_give_the_tokens_of_the_whole) {
    std::mt19937 random(3);
    const std::string document = words(random, 20000);
    input({document});
    options.documents.chunk_bytes = 100;
    prepare(options);
    std::vector<int> expected = tokenizer->encode(document);
    expected.insert(expected.begin(), tokenizer->end_of_text());
    EXPECT_EQ(tokens_of(found().train), expected);
}

TEST_F(Prepare, chunks_of_a_document_get_no_prefix_space_of_their_own) {
    BpeTrainer trainer({.vocab_size = 300, .special_tokens = {"<|endoftext|>"}, .add_prefix_space = true});
    std::mt19937 random(1);
    trainer.add_text(words(random, 2000), "text");
    tokenizer = std::make_unique<Tokenizer>(trainer.train());
    tokenizer->save(dir / "tokenizer", /*overwrite=*/true);
    const std::string document = words(random, 200000);  // about a megabyte: several chunks
    input({document});
    prepare(options);
    EXPECT_TRUE(documents_of(found().train) == Texts{" " + document});
}

TEST_F(Prepare, shards_are_full_except_the_last_and_have_their_index) {
    input(many(400));
    options.shard_tokens = 1000;
    const ShardIndex index = prepare(options);
    const size_t n = index.train.files.size();
    ASSERT_EQ(n, (index.train.tokens + 999) / 1000);
    uint64_t documents = 0;
    for (size_t i = 0; i < n; i++) {
        const Shard shard(options.output / index.train.files[i].name);
        EXPECT_EQ(shard.info().num_tokens, i + 1 < n ? 1000 : index.train.tokens - 1000 * (n - 1));
        EXPECT_EQ(shard.info().index, int(i));
        EXPECT_EQ(shard.info().count, int(n));
        EXPECT_EQ(shard.info().vocab_size, tokenizer->vocab_size());
        EXPECT_EQ(shard.info().end_of_text, tokenizer->end_of_text());
        EXPECT_EQ(index.train.files[i].tokens, shard.info().num_tokens);
        EXPECT_EQ(index.train.files[i].documents, uint64_t(shard.info().num_documents));
        EXPECT_EQ(index.train.files[i].xxh3, hex(shard.info().payload_xxh3));
        documents += index.train.files[i].documents;
    }
    EXPECT_EQ(documents, 400u);
}

TEST_F(Prepare, tokens_that_fill_the_last_shard_exactly_make_no_empty_one) {
    input({"abc"});
    options.shard_tokens = tokenizer->encode("abc").size() + 1;
    EXPECT_EQ(prepare(options).train.files.size(), 1u);
}

TEST_F(Prepare, validation_is_about_the_fraction_and_stays_when_data_is_added) {
    Texts documents = many(2000);
    documents.push_back(documents[3]);
    input(documents);
    options.val_fraction = 0.1;
    prepare(options);
    const Texts train = documents_of(found().train), val = documents_of(found().val);
    EXPECT_EQ(train.size() + val.size(), documents.size());
    EXPECT_NEAR(double(val.size()), 200, 5 * std::sqrt(2000 * 0.1 * 0.9));  // 5 sigma of the binomial
    for (const std::string& document : val) EXPECT_EQ(std::count(train.begin(), train.end(), document), 0);
    Texts more = many(500, 8);
    more.insert(more.begin() + 100, documents.begin(), documents.end());
    input(more);
    options.force = true;
    prepare(options);
    const Texts val_now = documents_of(found().val), train_now = documents_of(found().train);
    for (const std::string& d : val) EXPECT_NE(std::find(val_now.begin(), val_now.end(), d), val_now.end());
    for (const std::string& d : train) EXPECT_NE(std::find(train_now.begin(), train_now.end(), d), train_now.end());
}

TEST_F(Prepare, small_data_gets_one_validation_document) {
    options.val_fraction = 1e-9;
    options.force = true;
    for (const int n : {2, 3, 20, 300}) {
        const Texts documents = many(n, unsigned(n));
        input(documents);
        const ShardIndex index = prepare(options);
        EXPECT_EQ(index.val.documents, 1u);
        EXPECT_EQ(index.train.documents, uint64_t(n - 1));
        Texts all = documents_of(found().train), val = documents_of(found().val);
        all.insert(all.end(), val.begin(), val.end());
        EXPECT_TRUE(std::is_permutation(all.begin(), all.end(), documents.begin(), documents.end())) << n;
        EXPECT_EQ(read_shard_index(options.output).val.text_bytes, val[0].size());
    }
    input({"only one"});
    EXPECT_TRUE(prepare(options).val.files.empty());
    EXPECT_EQ(documents_of(found().train), Texts{"only one"});
    options.val_fraction = 0;
    input(many(5));
    EXPECT_TRUE(prepare(options).val.files.empty());
}

// The candidate for validation may be too long to hold back; then it is training data.
TEST_F(Prepare, documents_too_long_to_hold_back_are_training_data) {
    ShardInfo like;
    like.vocab_size = 300;
    like.end_of_text = 0;
    fs::create_directory(options.output);
    SplitWriter writer(options.output, 1e-9, 1 << 30, like);
    std::vector<unsigned char> part;
    pack_tokens(std::vector<int>(1 << 20, 5), like.vocab_size, part);
    for (const uint64_t hash : {uint64_t(3) << 60, uint64_t(1) << 60}) {
        writer.begin_document(hash, SplitName::train);
        for (int i = 0; i < 5; i++) writer.append(part, 1);
        writer.end_document();
    }
    ShardIndex index;
    writer.finish(index);
    EXPECT_EQ(index.train.documents, 2u);
    EXPECT_EQ(index.train.tokens, 2 * (5 * (1 << 20) + 1));
    EXPECT_EQ(index.train.text_bytes, 10u);
    EXPECT_TRUE(index.val.files.empty());
}

TEST_F(Prepare, bad_records_before_the_last_document_count_with_max_documents) {
    const std::string lines = "{\"x\":1}\n{\"text\":\"a\"}\n[]\n{\"text\":\"b\"}\n{\"text\":\"c\"}\n{\"y\":1}\n";
    options.inputs = {dir.write("a.jsonl", lines).string()};
    options.max_documents = 2;
    EXPECT_EQ(prepare(options).bad_records, 2u);
    EXPECT_EQ(documents_of(found().train), (Texts{"a", "b"}));
    options.strict = options.force = true;
    EXPECT_NE(error().find("a.jsonl:1: the record has no field"), std::string::npos);
}

// As in `zstdcat ... | kiln prepare --input /dev/stdin`, where the link has no target with a name.
TEST_F(Prepare, an_open_pipe_is_an_input) {
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const std::string text = "{\"text\": \"through a pipe\"}\n";
    ASSERT_EQ(::write(ends[1], text.data(), text.size()), ssize_t(text.size()));
    ::close(ends[1]);
    options.inputs = {concat("/dev/fd/", ends[0])};
    options.documents.format = DocumentFormat::jsonl;
    prepare(options);
    EXPECT_EQ(documents_of(found().train), Texts{"through a pipe"});
    ::close(ends[0]);
}

TEST_F(Prepare, a_flipped_bit_in_the_copy_of_the_tokenizer_is_noticed) {
    input(many(3));
    prepare(options);
    for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt"}) {
        const std::string content = read_file(options.output / name);
        for (size_t i = 0; i < 32; i++) {
            std::string flipped = content;
            char& byte = flipped[i * content.size() / 32];
            byte = char(byte ^ 1 << i % 8);
            std::ofstream(options.output / name) << flipped;
            EXPECT_NE(error_of([&] { find_data(options.output.string()); }).find(concat(name, ": has changed since")),
                      std::string::npos)
                << name << " " << i;
            EXPECT_NE(error_of([&] { find_data((options.output / "train_*.bin").string()); }).find(name),
                      std::string::npos);
        }
        std::ofstream(options.output / name) << content;
    }
    EXPECT_EQ(found().tokenizer, options.output);
}

TEST_F(Prepare, the_tokenizer_is_copied_to_the_shards) {
    input(many(3));
    const ShardIndex index = prepare(options);
    for (const char* name : {"tokenizer.json", "vocab.json", "merges.txt"}) {
        EXPECT_EQ(read_file(options.output / name), read_file(options.tokenizer / name)) << name;
    }
    EXPECT_EQ(found().tokenizer, options.output);
    const auto digest = sha256(read_file(options.output / "tokenizer.json"));
    EXPECT_EQ(Shard(found().train[0]).info().tokenizer_sha256, digest);
    EXPECT_EQ(index.tokenizer_sha256, hex(digest));
}

TEST_F(Prepare, output_feeds_the_loader) {
    input(many(200));
    options.val_fraction = 0.2;
    prepare(options);
    DataLoaderOptions loader;
    loader.shards = found().train;
    loader.vocab_size = tokenizer->vocab_size();
    loader.T = 16;
    EXPECT_NO_THROW(DataLoader(loader).next());
    loader.shards = found().val;
    EXPECT_NO_THROW(DataLoader(loader).next());
}

TEST_F(Prepare, existing_shards_are_replaced_only_by_force) {
    input(many(30));
    options.shard_tokens = 100;
    EXPECT_GT(prepare(options).train.files.size(), 5u);
    const auto before = snapshot(options.output);
    input(many(4));
    const std::string message = error();
    EXPECT_NE(message.find("already holds shards"), std::string::npos) << message;
    EXPECT_NE(message.find("--overwrite"), std::string::npos) << message;
    EXPECT_EQ(difference(snapshot(options.output), before), "");
    options.force = true;
    prepare(options);
    EXPECT_EQ(documents_of(found().train), many(4));
    size_t bins = 0;
    for (const auto& entry : fs::directory_iterator(options.output)) bins += entry.path().extension() == ".bin";
    EXPECT_EQ(bins, found().train.size());  // the old data is gone
}

TEST_F(Prepare, strict_run_stops_at_a_bad_record_and_leaves_a_directory_that_is_refused) {
    Texts documents = many(30);
    documents[20] += "\xFF";
    input(documents);
    options.strict = true;
    EXPECT_NE(error().find("input.txt:"), std::string::npos);
    EXPECT_NE(error_of([&] { found(); }).find("interrupted"), std::string::npos);
    input(many(30));
    prepare(options);
    EXPECT_EQ(documents_of(found().train), many(30));
    EXPECT_FALSE(fs::exists(options.output / kUnfinishedName));
}

TEST_F(Prepare, bad_records_are_counted_and_the_first_are_shown) {
    Texts documents = many(30), good = documents;
    for (const int i : {3, 5, 7, 9, 11, 13, 15}) documents[i] += "\xFF";
    for (const int i : {15, 13, 11, 9, 7, 5, 3}) good.erase(good.begin() + i);
    input(documents);
    Texts reports;
    options.report = [&](const std::string& text) { reports.push_back(text); };
    EXPECT_EQ(prepare(options).bad_records, 7u);
    EXPECT_EQ(documents_of(found().train), good);
    ASSERT_EQ(reports.size(), 5u);
    EXPECT_NE(reports[0].find("input.txt:"), std::string::npos) << reports[0];
    EXPECT_EQ(read_shard_index(options.output).bad_records, 7u);
}

TEST_F(Prepare, mostly_bad_records_are_an_error_unless_allowed) {
    std::string lines;
    for (int i = 0; i < 10; i++) lines += i < 6 ? "{\"txt\":\"a\"}\n" : "{\"text\":\"good\"}\n";
    options.inputs = {dir.write("a.jsonl", lines).string()};
    const std::string message = error();
    EXPECT_NE(message.find("bad records: 6 of 10, the first: "), std::string::npos) << message;
    EXPECT_NE(message.find("no field \"text\""), std::string::npos) << message;
    EXPECT_NE(error_of([&] { found(); }).find("interrupted"), std::string::npos);
    options.max_bad_fraction = 0.6;
    EXPECT_EQ(prepare(options).train.documents, 4u);
    // The run does not read to the end of a file with a wrong key.
    options.force = true;
    std::string many_lines;
    for (int i = 0; i < 100000; i++) many_lines += concat("{\"txt\":\"", std::string(50, 'a'), "\"}\n");
    options.inputs = {dir.write("b.jsonl", many_lines).string()};
    EXPECT_NE(error().find("bad records: "), std::string::npos);
    EXPECT_EQ(error().find("of 100000"), std::string::npos);
    options.max_bad_fraction = 1;
    options.inputs.push_back((dir / "a.jsonl").string());
    EXPECT_EQ(prepare(options).bad_records, 100006u);
}

TEST_F(Prepare, a_bad_part_of_a_long_document_is_left_out_of_it) {
    std::string document;
    for (int i = 0; i < 100; i++) document += "line " + std::to_string(i) + "\n";
    std::string damaged = document;
    damaged[400] = '\xFF';
    options.documents.separator = "";
    options.documents.chunk_bytes = 64;
    options.inputs = {dir.write("a.txt", damaged).string()};
    std::string said;
    options.report = [&](const std::string& text) { said += text; };
    const ShardIndex index = prepare(options);
    EXPECT_NE(said.find(" bytes of the document (left out)"), std::string::npos) << said;
    EXPECT_EQ(index.bad_records, 1u);
    EXPECT_EQ(index.train.documents, 1u);
    const Texts documents = documents_of(found().train);
    ASSERT_EQ(documents.size(), 1u);
    EXPECT_TRUE(documents[0].starts_with(document.substr(0, 300)));
    EXPECT_TRUE(documents[0].ends_with(document.substr(document.size() - 300)));
    EXPECT_LT(documents[0].size(), document.size());
}

TEST_F(Prepare, max_documents_takes_the_first) {
    const Texts documents = many(5000);
    input(documents);
    options.max_documents = 1234;
    options.documents.block_bytes = 1000;
    prepare(options);
    EXPECT_TRUE(documents_of(found().train) == Texts(documents.begin(), documents.begin() + 1234));
}

TEST_F(Prepare, progress_ends_with_the_totals) {
    input(many(500));
    PrepareProgress last;
    options.progress = [&](const PrepareProgress& p) {
        EXPECT_GE(p.tokens, last.tokens);
        last = p;
    };
    const ShardIndex index = prepare(options);
    EXPECT_EQ(last.bytes_read, last.bytes_total);
    EXPECT_EQ(last.bytes_total, fs::file_size(options.inputs[0]));
    EXPECT_EQ(last.documents, 500u);
    EXPECT_EQ(last.tokens, index.train.tokens);
}

TEST_F(Prepare, wrong_requests_say_so_and_touch_nothing) {
    input({" ", "\n"});
    EXPECT_NE(error().find("the input holds no text"), std::string::npos) << error();
    fs::remove_all(options.output);
    input({"text"});
    options.val_fraction = 1;
    EXPECT_NE(error().find("validation fraction of 1"), std::string::npos);
    options.val_fraction = 0;
    options.shard_tokens = kMaxShardTokens + 1;
    EXPECT_NE(error().find("a shard holds 1 to 1073741824"), std::string::npos);
    options.shard_tokens = 1000;
    options.tokenizer = dir / "none";
    EXPECT_NE(error().find("none"), std::string::npos);
    options.tokenizer = dir / "tokenizer";
    EXPECT_FALSE(fs::exists(options.output));
    options.output = dir.write("file", "x");
    EXPECT_NE(error().find("file: "), std::string::npos) << error();
    options.output = dir / "shards";
    options.inputs = {(dir / "missing.txt").string()};
    EXPECT_NE(error().find("missing.txt: not found"), std::string::npos);
}

TEST_F(Prepare, another_tokenizer_is_replaced_only_with_force_and_then_wholly) {
    input(many(20));
    for (const char* name : {"tokenizer.model", "added_tokens.json", "tokenizer.json", "chat_template.jinja"}) {
        options.output = dir / name;
        dir.write(concat(name, "/", name), "of another");
        const auto before = snapshot(options.output);
        for (const std::string& message : {error(), error_of([&] { tokenizer->save(options.output); })}) {
            EXPECT_NE(message.find((options.output / name).string()), std::string::npos) << message;
            EXPECT_NE(message.find("--overwrite"), std::string::npos) << message;
        }
        EXPECT_EQ(difference(snapshot(options.output), before), "");
    }
    for (const auto& write : {std::function([&] { prepare(options); }),
                              std::function([&] { tokenizer->save(options.output, /*overwrite=*/true); })}) {
        options.force = true;
        options.output = dir / "shards";
        dir.write("shards/tokenizer.model", "of another");
        dir.write("shards/added_tokens.json", "of another");
        write();
        EXPECT_FALSE(fs::exists(options.output / "tokenizer.model"));
        EXPECT_FALSE(fs::exists(options.output / "added_tokens.json"));
        EXPECT_EQ(Tokenizer::load(options.output).to_json(), tokenizer->to_json());
    }
    // The directory of the tokenizer itself: nothing in it would change.
    options.force = false;
    options.output = options.tokenizer;
    EXPECT_EQ(prepare(options).train.documents, 20u);
}

TEST_F(Prepare, files_that_only_look_like_its_own_are_kept) {
    input(many(20));
    dir.write("mark/shards.json.unfinished", "mine");
    dir.write("test/test_000000.bin", "mine");
    dir.write("shards/tokenizer.json.tmp-mine", "mine");
    options.output = dir / "mark";
    EXPECT_NE(error().find("shards.json.unfinished: was not written by `kiln prepare`"), std::string::npos) << error();
    options.output = dir / "test";
    EXPECT_NE(error().find("already holds shards (1 files)"), std::string::npos) << error();
    options.output = dir / "shards";
    prepare(options);
    for (const char* file : {"mark/shards.json.unfinished", "test/test_000000.bin", "shards/tokenizer.json.tmp-mine"}) {
        EXPECT_EQ(read_file(dir / file), "mine") << file;
    }
}

// Linux allows any bytes in names, JSON only UTF-8.
TEST_F(Prepare, names_that_are_not_utf8_are_percent_encoded) {
    input(many(20), "50%\xFF.txt");
    fs::rename(dir / "tokenizer", dir / "tok\xFE");
    options.tokenizer = dir / "tok\xFE";
    options.output = dir / "shards\xFD";
    EXPECT_EQ(prepare(options).train.documents, 20u);
    const auto recipe = read_shard_index(options.output).recipe;
    EXPECT_TRUE(recipe["inputs"][0]["percent_encoded"].get<std::string>().ends_with("/50%25%ff.txt")) << recipe;
    EXPECT_TRUE(recipe["tokenizer"]["percent_encoded"].get<std::string>().ends_with("/tok%fe")) << recipe;
    EXPECT_EQ(documents_of(found().train), many(20));
}

TEST_F(Prepare, documents_that_all_fall_into_validation_are_for_training) {
    for (int number = 0; number < 20; number++) {
        input({"document " + std::to_string(number)});
        options.val_fraction = 0.9;
        options.force = true;
        const ShardIndex index = prepare(options);
        EXPECT_EQ(index.train.documents, 1u);
        EXPECT_TRUE(index.val.files.empty());
        EXPECT_EQ(documents_of(found().train), Texts{"document " + std::to_string(number)});
    }
}

TEST_F(Prepare, utf16_is_named_instead_of_read_as_utf8) {
    for (const std::string mark : {"\xFF\xFE", "\xFE\xFF"}) {
        options.inputs = {dir.write("input.txt", mark + std::string("h\0i\0\n\0", 6)).string()};
        EXPECT_NE(error().find("input.txt: begins with the mark of UTF-16; read it with --encoding utf-16"),
                  std::string::npos)
            << error();
    }
}

TEST_F(Prepare, document_that_the_tokenizer_refuses_is_a_bad_record_with_its_place) {
    BpeTrainer trainer({.vocab_size = 300,
                        .special_tokens = {"<|endoftext|>"},
                        .pre_tokenizer = PreTokenizer::parse("(a+)+$|b", "the test")});
    trainer.add_text("ab", "text");
    Tokenizer(trainer.train()).save(dir / "tokenizer", /*overwrite=*/true);
    input({"b b", std::string(60, 'a') + "c", "b"});
    std::string said;
    options.report = [&](const std::string& text) { said += text; };
    const ShardIndex index = prepare(options);
    EXPECT_EQ(index.bad_records, 1u);
    EXPECT_EQ(index.train.documents, 2u);
    EXPECT_NE(said.find("input.txt:3: "), std::string::npos) << said;
    EXPECT_NE(said.find("match limit exceeded"), std::string::npos) << said;
}

}  // namespace
}  // namespace kiln
