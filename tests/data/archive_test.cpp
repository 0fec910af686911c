// Inputs that are not plain text: tar archives are read, other data is refused by what it is.
#include <gtest/gtest.h>

#include <random>

#include "cpu_reference/interface/error.h"
#include "tests/support/archives.h"
#include "tests/support/temp_directory.h"
#include "tokenizer/io/binary.h"
#include "tokenizer/prepare/block_parser.h"
#include "tokenizer/prepare/block_reader.h"

namespace kiln {
namespace {

using Texts = std::vector<std::string>;

class Archive : public testing::Test {
protected:
    Texts read(const std::string& name, std::string_view content, const DocumentOptions& options = {}) {
        return read_from(dir.write(name, content), {}, options);
    }
    Texts read_from(const std::filesystem::path& file, const InputPosition& from, const DocumentOptions& options = {}) {
        BlockReader reader({{.path = file, .bytes = std::filesystem::file_size(file)}}, options, from);
        BlockParser parser(options);
        Texts documents;
        BadRecords bad;
        positions.clear();
        for (Block block; reader.next(block); positions.push_back(block.end)) {
            parser.parse(
                block,
                [&](const Chunk& chunk) {
                    if (chunk.starts_document) documents.emplace_back();
                    documents.back() += chunk.text;
                },
                bad);
        }
        for (const BadRecord& record : bad.first) documents.push_back("bad: " + record.place + ": " + record.what);
        passed_over = reader.passed_over();
        return documents;
    }
    TempDirectory dir;
    std::vector<InputPosition> positions;
    Texts passed_over;
};

TEST_F(Archive, members_are_read_by_their_own_formats) {
    const std::string records = "{\"text\": \"three\"}\n{\"text\": \"four\"}\n";
    const std::string archive =
        tar_member("data/", "", '5') + tar_member("data/a.txt", "one\n") +
        tar_member("data/b.json", "[{\"text\": \"two\"}]") + tar_member("data/link.txt", "", '2') +
        tar_member("data/c.jsonl.gz", gzip(records)) + tar_member("data/picture.png", std::string("\x89PNG\0", 5)) +
        tar_member("data/._a.txt", std::string(600, '\0')) + tar_member("d.csv", "text,n\nfive,1\n") + kTarEnd;
    const Texts expected{"one\n", "two", "three", "four", "five"};
    EXPECT_EQ(read("a.tar", archive), expected);
    EXPECT_EQ(passed_over, (Texts{(dir / "a.tar:data/picture.png").string(), (dir / "a.tar:data/._a.txt").string()}));
    EXPECT_EQ(read("a.tar.gz", gzip(archive)), expected);
    EXPECT_EQ(read("archive", archive), expected);  // by its content
    EXPECT_EQ(read("a.tgz", gzip(archive)), expected);
}

// GNU tar ignores them without a word.
TEST_F(Archive, all_archives_of_a_file_are_read) {
    const std::string a = tar_member("a.txt", "one\n") + std::string(10240 - 1024, '\0');
    const std::string b = tar_member("b.txt", "two\n") + kTarEnd;
    const Texts expected{"one\n", "two\n"};
    EXPECT_EQ(read("ab.tar", a + b), expected);
    EXPECT_EQ(read("ab.tar.gz", gzip(a) + gzip(b)), expected);
    EXPECT_NE(error_of([&] { read("ab.tar", b + "text"); }).find("damaged or truncated after b.txt"),
              std::string::npos);
    EXPECT_NE(error_of([&] { read("ab.tar", a + b.substr(0, 1024)); }).find("no end mark after b.txt"),
              std::string::npos);
}

TEST_F(Archive, long_names_decide_about_the_format) {
    const std::string name = std::string(120, 'd') + "/a.jsonl", record = "{\"text\": \"one\"}";
    const std::string pax = concat(name.size() + 10, " path=", name, "\n");
    EXPECT_EQ(read("gnu.tar", tar_member("././@LongLink", name + '\0', 'L') + tar_member(name, record) + kTarEnd),
              Texts{"one"});
    EXPECT_EQ(read("pax.tar", tar_member("x", pax, 'x') + tar_member(name, record) + kTarEnd), Texts{"one"});
    EXPECT_EQ(read("g.tar", tar_member("x", "11 path=y\n", 'g') + tar_member("a.jsonl", record) + kTarEnd),
              Texts{"one"});
}

TEST_F(Archive, a_run_resumes_at_any_position) {
    std::string archive;
    Texts expected;
    for (int i = 0; i < 5; i++) {
        archive += tar_member(concat(i, ".jsonl"), concat("{\"text\": \"", i, "\"}\n{\"text\": \"", i, " again\"}\n"));
        expected.insert(expected.end(), {std::to_string(i), concat(i, " again")});
    }
    const DocumentOptions options{.block_bytes = 1};
    ASSERT_EQ(read("a.tar", archive + kTarEnd, options), expected);
    const std::vector<InputPosition> at = positions;
    ASSERT_EQ(at.size(), expected.size());
    for (size_t i = 0; i < at.size(); i++) {
        EXPECT_EQ(read_from(dir / "a.tar", at[i], options), Texts(expected.begin() + ptrdiff_t(i) + 1, expected.end()));
    }
}

TEST_F(Archive, messages_name_archive_and_member) {
    const std::string good = tar_member("a.jsonl", "{\"txt\": 1}\n");
    EXPECT_NE(read("a.tar", good + kTarEnd).at(0).find("a.tar:a.jsonl:1: the record has no field"), std::string::npos);
    const std::string half = good + tar_member("b.txt", std::string(2000, 'x'));
    EXPECT_NE(error_of([&] { read("a.tar", half.substr(0, 2000)); }).find("truncated in b.txt"), std::string::npos);
    EXPECT_NE(error_of([&] { read("a.tar", good + std::string(512, 'x')); }).find("damaged"), std::string::npos);
    const std::string zip = tar_member("b.txt", std::string("PK\3\4\0\0", 6));
    EXPECT_NE(error_of([&] { read("a.tar", zip + kTarEnd); }).find("a.tar:b.txt: is a ZIP archive"), std::string::npos);
}

TEST_F(Archive, data_that_is_not_text_is_refused_by_what_it_is) {
    const std::string zeros(100, '\0');
    const struct {
        std::string content, expected;
    } cases[] = {
        {"PAR1" + zeros, "is a Parquet file; convert it first: python3 -c"},
        {"PK\3\4" + zeros, "is a ZIP archive"},
        {"%PDF-1.4\n", "is a PDF document"},
        {"BZh91AY&SYxyz", "is compressed by bzip2; unpack it first"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a pointer of Git LFS, not the data itself"},
        {"\x7F" + std::string("ELF") + zeros, "is a program; give files of text instead"},
        {gzip("SQLite format 3" + zeros), "is a SQLite database"},
        {std::string("a\0b\0", 4), "byte 1 is NUL; if it is text in UTF-16"},
        {std::string(4000, 'x') + '\0', "byte 4000 is NUL"},
        {"\1\2\3\4\5\6 a few words", "of its first 18 bytes 6 are control characters"},
    };
    for (const auto& c : cases) {
        const std::string message = error_of([&] { read("a.txt", c.content); });
        EXPECT_NE(message.find(c.expected), std::string::npos) << message;
    }
    for (const char* text : {"PAR1 is a protein", "PK\n", "\x1B[31mred\x1B[0m\f\x1A", "x\x01 and more text"}) {
        EXPECT_EQ(not_text(text), "") << text;
    }
    std::mt19937 random(1);
    std::string noise;
    while (noise.size() < 4096) noise += char(1 + random() % 255);
    EXPECT_NE(error_of([&] { read("a.txt", noise, {.encoding = "latin-1"}); }).find("control"), std::string::npos);
}

// What the first bytes tell comes before what the name says.
TEST_F(Archive, a_pointer_to_data_is_not_taken_for_the_data) {
    dir.write("clone/README.md", "the card");
    dir.write("clone/data/train.parquet", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n");
    const std::string message = error_of([&] { find_documents({dir / "clone"}, {}, true); });
    EXPECT_NE(message.find("train.parquet: is a pointer of Git LFS"), std::string::npos) << message;
    dir.write("clone/data/train.parquet", "PAR1 and more");
    const std::string parquet = error_of([&] { find_documents({dir / "clone"}, {}, true); });
    EXPECT_NE(parquet.find("is a Parquet file"), std::string::npos) << parquet;
}

TEST_F(Archive, one_that_is_cut_anywhere_or_is_none_is_an_error) {
    const std::string archive = tar_member("a.txt", "one\n") + tar_member("b.txt", "two\n");
    for (const size_t size : {600, 1023, 1024, 1100, 1537, 2047, 2048}) {
        const std::string message = error_of([&] { read("a.tar", archive.substr(0, size)); });
        EXPECT_NE(message.find("truncated"), std::string::npos) << size << ": " << message;
    }
    for (const auto& [name, content] :
         {std::pair{"a.tar", std::string("text\n")}, std::pair{"a.tgz", gzip("text\n")}}) {
        const std::string message = error_of([&, n = name] { find_documents({dir.write(n, content)}, {}, true); });
        EXPECT_NE(message.find("its name says that it is an archive"), std::string::npos) << message;
    }
    const std::string sparse = tar_member("a.txt", "one\n") + tar_member("b.txt", "two\n", 'S') + kTarEnd;
    const std::string message = error_of([&] { read("a.tar", sparse); });
    EXPECT_NE(message.find("a.tar: b.txt is stored without its holes"), std::string::npos) << message;
}

// Far into a file, only the document with the NUL is lost, as with bytes that are not UTF-8.
TEST_F(Archive, a_nul_far_into_the_text_is_a_bad_record) {
    std::string text;
    for (int i = 0; i < 1000; i++) text += "a line\n";
    text += std::string("b\0d\n", 4) + "last\n";
    const Texts documents = read("a.txt", text, {.mode = DocumentMode::line});
    ASSERT_EQ(documents.size(), 1003u);
    EXPECT_NE(documents.back().find("a.txt:1001: byte 7001 is NUL"), std::string::npos) << documents.back();
}

}  // namespace
}  // namespace kiln
