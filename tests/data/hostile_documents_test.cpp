// Text in the wrong encoding, records that need much memory, and files that change while they are read.
#include "tests/support/archives.h"
#include "tests/support/documents_fixture.h"
#include "tests/support/random_text.h"
#include "tokenizer/io/file.h"

namespace kiln {
namespace {

using HostileDocuments = Documents;

// UTF-16 without a mark. The text has no characters above U+FFFF.
std::string utf16(std::string_view text, bool big_endian) {
    std::string out;
    for (const char *p = text.data(), *stop = p + text.size(); p < stop;) {
        uint32_t character = 0;
        p += decode_utf8(p, stop, character);
        const char low = char(character), high = char(character >> 8);
        out += {big_endian ? high : low, big_endian ? low : high};
    }
    return out;
}

TEST_F(HostileDocuments, utf16_without_a_mark_is_read_in_the_given_order) {
    for (const std::string mark : {"", "\xEF\xBB\xBF"}) {  // U+FEFF in UTF-8
        const std::string text = mark + "hi, \u4e2d\u6587\n";
        EXPECT_EQ(read("a.txt", utf16(text, false), {.encoding = "utf-16le"}), Texts{"hi, \u4e2d\u6587\n"});
        EXPECT_EQ(read("a.txt", utf16(text, true), {.encoding = "utf-16be"}), Texts{"hi, \u4e2d\u6587\n"});
    }
}

// Nearly any bytes can be read as UTF-16, in either order.
TEST_F(HostileDocuments, text_in_another_encoding_than_the_given_one_is_refused) {
    const std::string text = "plain words and, for a change, \u4e2d\u6587\n";
    const std::string little = utf16(text, false), big = utf16(text, true);
    const struct {
        std::string content;
        const char *encoding, *expected;
    } cases[] = {
        {little, "utf-16", "has no byte order mark; read it with --encoding utf-16le"},
        {big, "utf-16", "has no byte order mark; read it with --encoding utf-16be"},
        {std::string("\x2D\x4E\x87\x65", 4), "utf-16", "read it with --encoding utf-16le or utf-16be"},
        {little, "utf-16be", "its bytes are in the order of utf-16le, not of utf-16be"},
        {big, "utf-16le", "its bytes are in the order of utf-16be, not of utf-16le"},
        {"\xFF\xFE" + little, "utf-16be", "begins with the mark of UTF-16"},
        {"\xFF\xFE" + little, "gb18030", "begins with the mark of UTF-16; read it with --encoding utf-16"},
        {text, "utf-16", "is UTF-8, not utf-16; leave out --encoding"},
        {text, "utf-16le", "is UTF-8, not utf-16le"},
        {std::string(5000, 'x') + text, "utf-16be", "is UTF-8, not utf-16be"},
        {std::string(4095, 'x') + "\u4e2d\u6587", "utf-16le", "is UTF-8"},  // a character is cut at 4096
        {little, "utf-8", "if it is text in UTF-16, read it with --encoding utf-16le"},
        {std::string("\xFF\xFE\0\0x\0\0\0", 8), "utf-16", "begins with the mark of UTF-32; convert it first: iconv"},
        {std::string("\0\0\xFE\xFF\0\0\0x", 8), "utf-8", "begins with the mark of UTF-32"},
        {"\xFF\xFE" + little + "x", "utf-16", "is not utf-16"},                            // half a character
        {"\xFF\xFE" + little + std::string("\x3D\xD8x\0", 4), "utf-16", "is not utf-16"},  // half of a surrogate pair
    };
    for (const auto& c : cases) {
        const std::string message = error("a.txt", c.content, {.encoding = c.encoding});
        EXPECT_NE(message.find(c.expected), std::string::npos) << c.encoding << ": " << message;
    }
}

// A row of commas has a field for each byte, and every two bytes of a file may be a bad record.
TEST_F(HostileDocuments, of_many_fields_and_bad_records_few_are_kept) {
    EXPECT_TRUE(read("a.csv", "id,text\n" + std::string(1'000'000, ',') + "\n1,a\n") == Texts{"a"});
    EXPECT_NE(bad.first.at(0).what.find("columns: 1000001 where the header has 2"), std::string::npos);
    std::string lines;
    for (int i = 0; i < 1000; i++) lines += "1\n";
    EXPECT_TRUE(read("a.jsonl", lines + "{\"text\":\"a\"}\n") == Texts{"a"});
    EXPECT_EQ(bad.count, 1000u);
    EXPECT_EQ(bad.first.size(), BadRecords::kShown);
}

TEST_F(HostileDocuments, long_json_records_are_read_as_short_ones_are) {
    const std::string filler(size_t(5) << 20, 'x');
    EXPECT_TRUE(read("a.jsonl", R"({"id":1,"other":")" + filler + R"(","text":"\u00e9"})" + "\n") == Texts{"\u00e9"});
    EXPECT_TRUE(read("a.jsonl", R"({"text":")" + filler + "\"}\n") == Texts{filler});
    EXPECT_NE(error("a.jsonl", R"({"text":")" + filler + "\xFF\"}\n").find("is not UTF-8"), std::string::npos);
    EXPECT_NE(error("a.jsonl", std::string(filler.size(), '[') + "\n").find("nested deeper than 1000 levels"),
              std::string::npos);
    std::string members = "{";
    while (members.size() < filler.size()) members += R"("":0,)";
    EXPECT_NE(error("a.jsonl", members + R"("text":"a"})" + "\n").find("more than 100000 fields"), std::string::npos);
}

// A copy that is still running, or a log. Half of the text must not pass for the whole.
TEST_F(HostileDocuments, a_file_that_changes_while_it_is_read_is_an_error) {
    std::string text;
    for (SplitMix64 random(1); text.size() < size_t(2) << 20;)
        text += random.below(6) == 0 ? ' ' : char('a' + random.below(26));
    for (const auto& [name, content] : {std::pair{"a.txt", text}, {"a.txt.gz", gzip(text)}}) {
        const auto path = dir / name;
        const auto error_after = [&](const std::function<void()>& change) {
            dir.write(name, content);
            BlockReader reader({{.path = path, .bytes = content.size()}}, {.chunk_bytes = 1000, .block_bytes = 1000});
            Block block;
            EXPECT_TRUE(reader.next(block));
            change();
            return error_of([&] {
                while (reader.next(block)) {
                }
            });
        };
        EXPECT_EQ(error_after([] {}), "");
        EXPECT_NE(error_after([&] {
                      std::filesystem::resize_file(path, content.size() / 2);
                  }).find(path.string() + ": was truncated from"),
                  std::string::npos);
        EXPECT_NE(error_after([&] { OutputFile::append(path).write("more"); }).find(path.string() + ": grew from"),
                  std::string::npos);
        EXPECT_NE(error_after([&] { OutputFile::update(path).write_at(3, "!", 1); }).find("was changed while"),
                  std::string::npos);
    }
}

}  // namespace
}  // namespace kiln
