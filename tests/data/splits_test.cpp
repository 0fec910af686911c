// Which split a file's documents belong to: by its name, by --val-input, or by the hash of each document.
#include "tests/support/archives.h"
#include "tests/support/prepare_fixture.h"

namespace kiln {
namespace {

TEST(SplitNames, are_words_of_the_last_part_that_has_one) {
    for (const char* train : {"train.txt", "data/train-00000-of-00001.jsonl", "wiki.train.txt", "Training_set.csv",
                              "train/a.txt", "test/train.txt", "train1.txt", "train_test_split.txt"}) {
        EXPECT_EQ(split_named(train), SplitName::train) << train;
    }
    for (const char* val : {"valid.txt", "TinyStories-valid.txt", "validation/0.jsonl", "dev.tsv", "x.val.json.gz"}) {
        EXPECT_EQ(split_named(val), SplitName::val) << val;
    }
    EXPECT_EQ(split_named("./test/neg/0.txt"), SplitName::test);
    for (const char* none : {"a.txt", "trainer.txt", "latest.txt", "values/a.txt", "device.txt", "", "contest.md"}) {
        EXPECT_EQ(split_named(none), std::nullopt) << none;
    }
}

class Splits : public Prepare {
protected:
    Splits() {
        options.documents.separator.clear();
        options.report = [&](const std::string& text) { said += text + "\n"; };
        options.val_fraction = 0.3;
    }
    std::string path(const std::string& name) { return (dir / name).string(); }
    // The documents of each split; a document is one file here.
    Texts made() {
        options.force = true;
        said.clear();
        prepare(options);
        const DataPaths data = found();
        Texts splits;
        for (const auto* shards : {&data.train, &data.val, &data.test}) {
            Texts documents = documents_of(*shards);
            std::sort(documents.begin(), documents.end());
            std::string all;
            for (const std::string& document : documents) all += (all.empty() ? "" : "|") + document;
            splits.push_back(all);
        }
        return splits;
    }
    std::string said;
};

TEST_F(Splits, files_in_one_directory_are_split_by_their_names) {
    for (const char* name : {"train.txt", "valid.txt", "test.txt", "more.txt", "README.md"}) {
        dir.write(std::string("data/") + name, name);
    }
    options.inputs = {path("data")};
    EXPECT_EQ(made(), (Texts{"more.txt|train.txt", "valid.txt", "test.txt"}));
    EXPECT_NE(said.find(concat("val ", path("data/valid.txt"), "; test ", path("data/test.txt"), ";")), said.npos)
        << said;
    EXPECT_NE(said.find("passed over, since their names are not those of data: " + path("data/README.md")), said.npos)
        << said;
    options.inputs = {path("data/*.txt")};
    EXPECT_EQ(made(), (Texts{"more.txt|train.txt", "valid.txt", "test.txt"}));
    options.inputs = {path("data/test.txt"), path("data/train.txt")};
    EXPECT_EQ(made()[2], "test.txt");
    options.split_names = false;
    EXPECT_EQ(made()[2], "");
    EXPECT_EQ(said.find("splits by the names"), said.npos);
}

// What is left would be the test split.
TEST_F(Splits, training_data_that_cannot_be_read_is_not_passed_over) {
    dir.write("data/train.parquet", "PAR1 and more");
    dir.write("data/test.txt", "test");
    options.inputs = {path("data")};
    EXPECT_NE(error().find("data/train.parquet: is a Parquet file; convert it first"), std::string::npos) << error();
    const std::string members = tar_member("train.arrow", "ARROW1") + tar_member("valid.txt", "valid") + kTarEnd;
    options.inputs = {dir.write("data.tar", members)};
    EXPECT_NE(error().find("data.tar/train.arrow: is an Arrow file"), std::string::npos) << error();
    dir.write("data/train.txt", "train");
    options.inputs = {path("data")};
    EXPECT_EQ(made(), (Texts{"train", "", "test"}));
}

TEST_F(Splits, names_decide_only_if_they_differ) {
    for (const char* name : {"test.txt", "a.txt", "b.txt"}) dir.write(std::string("test/") + name, name);
    options.inputs = {path("test")};
    const Texts splits = made();
    EXPECT_EQ(splits[2], "");
    EXPECT_NE(splits[1], "") << "the hashes choose";
}

TEST_F(Splits, without_a_file_for_validation_the_hashes_choose_from_the_training_files) {
    std::string lines;
    for (int i = 0; i < 40; i++) lines += "line " + std::to_string(i) + "\n";
    dir.write("data/train.txt", lines);
    dir.write("data/test.txt", "last");
    options.inputs = {path("data")};
    options.documents.mode = DocumentMode::line;
    const Texts splits = made();
    EXPECT_EQ(splits[2], "last");
    const auto documents = [](const std::string& text) { return std::count(text.begin(), text.end(), '|') + 1; };
    EXPECT_EQ(documents(splits[0]) + documents(splits[1]), 40);
    EXPECT_GT(documents(splits[1]), 3);
}

TEST_F(Splits, val_input_is_the_validation_split) {
    for (const char* name : {"a.txt", "b.txt", "c.txt"}) dir.write(std::string("data/") + name, name);
    dir.write("held.jsonl", "{\"text\": \"held\"}\n");
    options.inputs = {path("data")};
    options.val_inputs = {path("held.jsonl"), path("data/./b.txt")};  // in both: only for validation
    EXPECT_EQ(made(), (Texts{"a.txt|c.txt", "b.txt|held", ""}));
    options.val_inputs = {path("data")};
    EXPECT_NE(error().find("none is left to train on"), std::string::npos);
    dir.write("empty/train.txt", " ");
    dir.write("empty/valid.txt", "text");
    options.inputs = {path("empty")};
    options.val_inputs = {};
    EXPECT_NE(error().find("the files for training hold no text"), std::string::npos);
}

TEST_F(Splits, members_of_an_archive_are_split_by_their_names) {
    std::string archive;
    for (const char* name : {"aclImdb/train/0.txt", "aclImdb/test/0.txt", "aclImdb/README.md", "aclImdb/x.vocab"}) {
        archive += tar_member(name, name);
    }
    dir.write("imdb.tar", archive + kTarEnd);
    options.inputs = {path("imdb.tar")};
    const Texts splits = made();
    EXPECT_EQ(splits[2], "aclImdb/test/0.txt");
    EXPECT_NE(said.find("those in " + path("imdb.tar")), said.npos) << said;
    EXPECT_NE(said.find("imdb.tar:aclImdb/x.vocab"), said.npos) << said;
}

TEST_F(Splits, a_stopped_run_resumes_with_all_three) {
    std::string text;
    for (int i = 0; i < 20000; i++) text += "line " + std::to_string(i) + "\n";
    for (const char* name : {"train.txt", "valid.txt", "test.txt"}) dir.write(std::string("data/") + name, name + text);
    options.inputs = {path("data")};
    options.documents.mode = DocumentMode::line;
    prepare(options);
    const auto whole = snapshot(options.output);
    options.output = dir / "resumed";
    options.save_seconds = 0;
    int runs = 0;
    for (bool done = false; !done; runs++) {
        options.stop = [n = 0]() mutable { return ++n == 2; };
        try {
            prepare(options);
            done = true;
        } catch (const PrepareStopped&) {
        }
    }
    EXPECT_GT(runs, 4);
    EXPECT_EQ(difference(whole, snapshot(options.output)), "");
}

}  // namespace
}  // namespace kiln
