// Reads documents with BlockReader and BlockParser together, as the threads of `kiln prepare` do.
#include <cctype>
#include <set>

#include <gtest/gtest.h>
#include <unistd.h>
#include <zstd.h>

#include "tests/support/archives.h"
#include "tests/support/documents_fixture.h"

namespace kiln {
namespace {

TEST_F(Documents, a_file_is_one_document_byte_for_byte) {
    EXPECT_EQ(read("a.txt", " one\r\n\r\ntwo\n\n"), Texts{" one\r\n\r\ntwo\n\n"});
    EXPECT_EQ(read("a.txt", "no newline"), Texts{"no newline"});
    EXPECT_EQ(read("a", "\xEF\xBB\xBFmark"), Texts{"mark"});  // any other name is text; the byte order mark goes
}

TEST_F(Documents, white_space_alone_is_not_a_document) {
    for (const DocumentMode mode : {DocumentMode::file, DocumentMode::line, DocumentMode::paragraph}) {
        EXPECT_TRUE(read("a.txt", "", {.mode = mode}).empty());
        EXPECT_TRUE(read("a.txt", " \n\t\r\n\xE3\x80\x80\n", {.mode = mode}).empty());
    }
}

TEST_F(Documents, each_line_is_a_document) {
    const DocumentOptions options{.mode = DocumentMode::line};
    EXPECT_EQ(read("a.txt", "one\ntwo\r\n\n  three \nfour", options), (Texts{"one", "two", "  three ", "four"}));
}

TEST_F(Documents, paragraphs_stand_between_blank_lines) {
    const DocumentOptions options{.mode = DocumentMode::paragraph};
    EXPECT_EQ(read("a.txt", "\n\none\ntwo\n \t\r\n\nthree\r\n\r\nfour\n", options),
              (Texts{"one\ntwo", "three", "four"}));
}

TEST_F(Documents, separator_lines_divide_whatever_the_mode) {
    const DocumentOptions options{.mode = DocumentMode::line, .separator = "%"};
    EXPECT_EQ(read("poems", "a\n\nb\n%\nc % d\n%%\n%\r\n%\n\xE5\x94\x90\n%", options),
              (Texts{"a\n\nb", "c % d\n%%", "\xE5\x94\x90"}));
}

TEST_F(Documents, separator_is_found_wherever_the_buffer_ends) {
    const DocumentOptions options{.separator = "<sep>"};
    for (const int filler : {262140, 262141, 262142, 262143, 262144, 262145, 262150}) {
        const std::string first(size_t(filler), 'x');
        EXPECT_EQ(read("a.txt", first + "\n<sep>\nb\n", options), (Texts{first, "b"})) << filler;
    }
}

TEST_F(Documents, several_files_follow_each_other) {
    const auto a = dir.write("a.txt", "one"), b = dir.write("b.jsonl", "{\"text\":\"two\"}"),
               c = dir.write("c.txt", "three");
    EXPECT_EQ(read_files({a, b, c}), (Texts{"one", "two", "three"}));
}

TEST_F(Documents, json_lines_give_the_text_of_each_record) {
    EXPECT_EQ(read("a.jsonl", "{\"text\": \"one\\ntwo\\n\", \"n\": 1}\n\n{\"text\":\"\\u5510\"}\r\n{\"text\":\" \"}"),
              (Texts{"one\ntwo\n", "\xE5\x94\x90"}));
    EXPECT_EQ(read("a.ndjson", "{\"body\":\"b\",\"text\":1}\n", {.text_keys = {"body"}}), Texts{"b"});
}

TEST_F(Documents, json_array_and_json_sequence_give_their_records) {
    const Texts expected{"a]}\"", "b"};
    EXPECT_EQ(read("a.json", "[\n {\"text\": \"a]}\\\"\", \"x\": [{}, 1]},\n{\"text\":\"b\"} ]\n"), expected);
    EXPECT_EQ(read("a.json", "{\n\"text\": \"a]}\\\"\"}\n{\"text\":\"b\"}"), expected);
    EXPECT_TRUE(read("a.json", "[]").empty());
    EXPECT_TRUE(read("a.json", "").empty());
}

TEST_F(Documents, bad_records_name_file_and_line) {
    const struct {
        const char *name, *content, *expected;
    } cases[] = {
        {"a.jsonl", "{\"text\":\"a\"}\n\n{\"text\":", "a.jsonl:3: not a JSON record"},
        {"a.jsonl", "{\"text\":\"a\"}\n[1]", "a.jsonl:2: a record { ... } is expected, not array"},
        {"a.jsonl", "{\"body\":\"a\",\"id\":1}", "a.jsonl:1: the record has no field \"text\" (it has: body, id)"},
        {"a.jsonl", "{\"text\":[]}", "a.jsonl:1: the field \"text\" holds array where text is expected"},
        {"a.jsonl", "{\"text\":\"\xFF\"}", "a.jsonl:1: not a JSON record"},
        {"a.jsonl", "{\"text\":\"\\ud800\"}", "a.jsonl:1: the field \"text\" holds half of a surrogate pair"},
        {"a.json", "[{\"text\":\"a\"}\n{\"text\":\"b\"}]", "a.json:2: a comma or ] is missing"},
        {"a.json", "[{\"text\":\"a\"},\n", "a.json:2: the file ends within the array"},
        {"a.json", "[{\"text\":\"a\"}", "a.json:1: the file ends within the array"},
        {"a.json", "[\n{\"text\":\"a}]", "a.json:2: the record that starts here does not end"},
        {"a.json", "[]]", "a.json:1: there is more after the end of the array"},
        {"a.json", "\"text\"", "a.json:1: a record { ... } is expected here"},
    };
    for (const auto& c : cases) {
        const std::string message = error(c.name, c.content);
        EXPECT_NE(message.find(c.expected), std::string::npos) << c.content << " gave: " << message;
    }
}

TEST_F(Documents, text_that_is_not_utf8_names_line_and_byte) {
    const std::string text = "one\n\ntwo \xB0\xA1\n";
    for (const DocumentMode mode : {DocumentMode::file, DocumentMode::line, DocumentMode::paragraph}) {
        const std::string message = error("a.txt", text, {.mode = mode});
        EXPECT_NE(message.find("a.txt:3: byte 9 (value 176) is not UTF-8"), std::string::npos) << message;
    }
    const std::string cut = error("a.txt", "\xE5\x94");  // a character that the file's end cuts
    EXPECT_NE(cut.find("a.txt:1: byte 0 "), std::string::npos) << cut;
    // Far into a document of many chunks.
    std::string far;
    for (int i = 0; i < 1000; i++) far += "line\n";
    const std::string message = error("a.txt", far + "\xFF", {.chunk_bytes = 64});
    EXPECT_NE(message.find("a.txt:1001: byte 5000 "), std::string::npos) << message;
}

TEST_F(Documents, long_documents_are_cut_where_every_pre_tokenizer_cuts) {
    std::string text;
    for (int i = 0; i < 200; i++) text += i % 3 ? "word, \n\nword.\n  x\n(\n" : "plain line\nanother\n";
    for (size_t chunk_bytes = 32; chunk_bytes < 80; chunk_bytes++) {
        cuts.clear();
        EXPECT_EQ(read("a.txt", text, {.chunk_bytes = chunk_bytes}), Texts{text});
        EXPECT_GT(chunks, 20);
        for (size_t i = 0; i + 1 < cuts.size(); i++) {
            EXPECT_TRUE(std::isalnum(cuts[i].back())) << i;
            EXPECT_FALSE(std::isalnum(cuts[i + 1].front())) << i;
        }
        expect_word_ends_at_cuts(text);
    }
}

TEST_F(Documents, one_long_line_is_cut_between_words_and_a_long_word_never) {
    std::string words, characters;
    for (int i = 0; i < 5000; i++) words += i % 7 ? "word " : "42 ";
    for (int i = 0; i < 5000; i++) characters += "\xE5\x94\x90";
    EXPECT_EQ(read("a.txt", words, {.chunk_bytes = 64}), Texts{words});
    EXPECT_GT(chunks, 100);
    expect_word_ends_at_cuts(words);
    EXPECT_EQ(read("a.txt", characters, {.chunk_bytes = 64}), Texts{characters});
    EXPECT_EQ(chunks, 1);
    EXPECT_EQ(read("a.txt", characters + ", " + words, {.chunk_bytes = 64}), Texts{characters + ", " + words});
    const DocumentOptions short_records{.chunk_bytes = 64, .block_bytes = 64, .max_record_bytes = 4000};
    EXPECT_NE(error("a.txt", "words\n" + characters, short_records)
                  .find("a.txt:1: more than 4000 bytes of one document cannot be cut"),
              std::string::npos);
    EXPECT_EQ(error("a.txt", words, short_records), "");
}

// A document is cut at the same places in any file, line or record.
TEST_F(Documents, cuts_depend_on_the_document_alone) {
    for (const int words_a_line : {50, 500}) {
        std::string text;
        for (int i = 0; i < 3000; i++) text += i % words_a_line ? "some words go here " : "and now a line that ends\n";
        while (text.back() == '\n' || text.back() == ' ') text.pop_back();
        const DocumentOptions options{.separator = "%", .chunk_bytes = 1000};
        cuts.clear();
        read("a.txt", text, options);
        const Texts alone = cuts;
        EXPECT_GT(alone.size(), 20u);
        for (const size_t before : {size_t(1), size_t(777), size_t(262100), size_t(262144)}) {
            cuts.clear();
            read("a.txt", std::string(before, 'x') + "\n%\n" + text + "\n%\n", options);
            EXPECT_EQ(Texts(cuts.end() - ptrdiff_t(alone.size()), cuts.end()), alone) << before;
        }
        cuts.clear();
        std::string escaped;
        for (const char c : text) escaped += c == '\n' ? std::string("\\n") : std::string(1, c);
        read("a.jsonl", "{\"text\":\"" + escaped + "\"}", options);
        EXPECT_EQ(cuts, alone);
    }
}

TEST_F(Documents, directories_are_walked_in_order) {
    for (const char* name : {"d/b.txt", "d/a/z.jsonl", "d/c.md", "d/.hidden.txt", "d/.git/x.txt", "d/data.csv",
                             "d/tokenizer.json", "d/shards.json", "d/train.bin", "single"}) {
        dir.write(name, "x");
    }
    const Paths files = found({dir / "single", dir / "d"});
    EXPECT_EQ(files, (Paths{dir / "single", dir / "d/a/z.jsonl", dir / "d/b.txt", dir / "d/c.md", dir / "d/data.csv"}));
}

TEST_F(Documents, patterns_match_within_and_across_directories) {
    for (const char* name : {"d/1.txt", "d/2.txt", "d/x/3.txt", "d/x/y/4.txt", "d/x/y/5.jsonl", "d/.h/6.txt"}) {
        dir.write(name, "x");
    }
    EXPECT_EQ(found({dir / "d/*.txt"}), (Paths{dir / "d/1.txt", dir / "d/2.txt"}));
    EXPECT_EQ(found({dir / "d/[2-9].txt"}), Paths{dir / "d/2.txt"});
    EXPECT_EQ(found({dir / "d/**/*.txt"}),
              (Paths{dir / "d/1.txt", dir / "d/2.txt", dir / "d/x/3.txt", dir / "d/x/y/4.txt"}));
    EXPECT_EQ(found({dir / "d/**/y/?.*"}), (Paths{dir / "d/x/y/4.txt", dir / "d/x/y/5.jsonl"}));
    EXPECT_NE(error_of([&] { found({dir / "d/*.csv"}); }).find("no file matches"), std::string::npos);
    dir.write("odd[1].txt", "a file whose name is a pattern");
    EXPECT_EQ(found({dir / "odd[1].txt"}), Paths{dir / "odd[1].txt"});
}

TEST_F(Documents, links_to_files_are_read_and_loops_of_links_end) {
    dir.write("blobs/1a2b", "x");
    dir.write("d/a.txt", "x");
    std::filesystem::create_symlink("../blobs/1a2b", dir / "d/b.txt");
    std::filesystem::create_symlink("c.txt", dir / "d/c.txt");       // itself
    std::filesystem::create_directory_symlink(".", dir / "d/loop");  // a directory in itself
    std::filesystem::create_symlink("nowhere", dir / "d/gone.txt");
    EXPECT_EQ(found({dir / "d"}), (Paths{dir / "d/a.txt", dir / "d/b.txt"}));
    EXPECT_EQ(found({dir / "d/**/*.txt"}), (Paths{dir / "d/a.txt", dir / "d/b.txt"}));
    EXPECT_NE(error_of([&] { found({dir / "d/c.txt"}); }).find("symbolic links"), std::string::npos);
}

TEST_F(Documents, inputs_that_cannot_be_read_are_errors) {
    const auto find = [&](const std::filesystem::path& path) {
        return error_of([&] { find_documents({path.string()}); });
    };
    EXPECT_NE(find(dir / "none").find("none: not found"), std::string::npos);
    EXPECT_NE(find(dir.path()).find("no text in this directory"), std::string::npos);
    EXPECT_NE(find(dir.write("a.jsonl.xz", "")).find("a.jsonl.xz: is compressed by xz; unpack it"), std::string::npos);
    EXPECT_NE(find(dir.write("a.PARQUET", "")).find("is a Parquet file; convert it"), std::string::npos);
    EXPECT_NE(find(dir.write("a.bin", "")).find("is binary data, by its name"), std::string::npos);
    EXPECT_EQ(find(dir.write("a.bin.gz", "")), "");  // a text that somebody compressed
    EXPECT_NE(find("/dev/zero").find("/dev/zero: is a device"), std::string::npos);
    EXPECT_NE(error_of([] { find_documents({}); }).find("no text given"), std::string::npos);
    if (::geteuid() == 0) return;  // root may read everything
    std::filesystem::create_directory(dir / "closed");
    std::filesystem::permissions(dir / "closed", std::filesystem::perms::none);
    EXPECT_NE(find(dir.path()).find("closed: the directory cannot be read"), std::string::npos);
}

// Blocks of every small size give the same chunks, also if reading starts again at each of them.
TEST_F(Documents, any_block_may_be_the_last_that_was_read) {
    std::string text = "one two three\nfour\n\n\n";
    for (int i = 0; i < 60; i++)
        text += i % 20 == 9 ? "\r\n \t\n" : i % 7 ? "some words of text" : "\n(line)\n% %\n%\n";
    std::string json = "[", csv = "id,text\r\n";
    for (int i = 0; i < 40; i++) {
        const std::string n = std::to_string(i);
        json += (i ? "  ,\n" : "\n") + std::string("{\"text\": \"]}\\\"") + n + "\", \"x\": [{}]}";
        csv += n + ",\"a \"\"field\"\",\nof " + n + "\"\r\n";
    }
    const struct {
        const char* name;
        std::string content;
        DocumentOptions options;
    } cases[] = {
        {"a.txt", text, {}},
        {"a.txt", text, {.mode = DocumentMode::line}},
        {"a.txt", text, {.mode = DocumentMode::paragraph}},
        {"a.txt", text, {.separator = "%"}},
        {"a.txt", std::string(3000, '\n') + text + std::string(3000, '\n'), {.separator = "%"}},
        {"a.jsonl", "{\"text\":\"x\"}\n\n{\"text\":\"y\"}\n{\n{\"text\":\"z\"}", {}},
        {"a.json", json + "]", {}},
        {"a.json", json, {.keep_start_of_damaged = true}},
        {"a.csv", csv, {}},
    };
    for (const auto& c : cases) {
        DocumentOptions options = c.options;
        options.chunk_bytes = 40;
        const auto path = dir.write(c.name, c.content);
        const std::vector<InputFileInfo> files = {{.path = path, .bytes = c.content.size()}, {.path = path}};
        const auto chunks_of = [&](size_t block_bytes, bool reopen) {
            options.block_bytes = block_bytes;
            auto reader = std::make_unique<BlockReader>(files, options);
            BlockParser parser(options);
            Texts all;
            bad = {};
            for (Block block; reader->next(block);) {
                parser.parse(
                    block,
                    [&](const Chunk& p) {
                        all.push_back(std::string(p.text) + (p.starts_document ? "<" : "") +
                                      (p.ends_document ? ">" : ""));
                    },
                    bad);
                if (reopen) reader = std::make_unique<BlockReader>(files, options, block.end);
            }
            for (const BadRecord& b : bad.first) all.push_back(b.place + b.what);
            return all;
        };
        const Texts expected = chunks_of(1 << 20, false);
        EXPECT_GT(expected.size(), 4u);
        for (const size_t block_bytes : {1, 2, 7, 50, 300, 1000}) {
            EXPECT_EQ(chunks_of(block_bytes, false), expected) << c.name << block_bytes;
            EXPECT_EQ(chunks_of(block_bytes, true), expected) << c.name << block_bytes;
        }
    }
}

// The text that waits in the reader takes memory and is copied. If it grew, the time would be quadratic in the length
// of a file.
TEST_F(Documents, the_reader_is_never_far_ahead_of_its_blocks) {
    std::string lines, records;
    for (int i = 0; i < 20'000; i++) {
        lines += concat("line ", i, i % 50 == 49 ? "\n\n" : "\n");
        records += concat("{\"text\": \"", i, "\"}\n");
    }
    const struct {
        const char* name;
        const std::string& content;
        DocumentMode mode;
    } cases[] = {{"a.txt", lines, DocumentMode::file},
                 {"a.txt", lines, DocumentMode::line},
                 {"a.txt", lines, DocumentMode::paragraph},
                 {"a.jsonl", records, DocumentMode::file}};
    for (const auto& c : cases) {
        for (const size_t block_bytes : {700, 2000, 9000}) {
            const DocumentOptions options{.mode = c.mode, .chunk_bytes = 1000, .block_bytes = block_bytes};
            BlockReader reader({{.path = dir.write(c.name, c.content), .bytes = c.content.size()}}, options);
            size_t given = 0, most = 0;
            for (Block block; reader.next(block);) {
                most = std::max<size_t>(most, reader.bytes_read() - given);
                given += block.size;
            }
            EXPECT_GE(given + 1, c.content.size());  // the newline after the last record belongs to no record
            EXPECT_LE(most, 4 * options.chunk_bytes + 2 * block_bytes) << c.name << int(c.mode) << block_bytes;
        }
    }
}

TEST_F(Documents, csv_rows_give_the_column_by_its_name) {
    EXPECT_EQ(read("a.csv", "Text,Label\r\n\"a, \"\"b\"\"\nc\",1\r\n\r\nplain,0\n,1\n\"\",2\nlast,3"),
              (Texts{"a, \"b\"\nc", "plain", "last"}));
    EXPECT_EQ(bad.count, 0u);
    EXPECT_EQ(read("a.csv", "\xEF\xBB\xBFv1,v2,,\nham,it\xE2\x80\x99s,,\n", {.text_keys = {"text", "v2"}}),
              Texts{"it\xE2\x80\x99s"});
    EXPECT_EQ(read("a.tsv", "id\ttext\n1\ta, b\n"), Texts{"a, b"});
    EXPECT_TRUE(read("a.csv", "").empty());
    EXPECT_TRUE(read("a.csv", "text\n").empty());
    EXPECT_EQ(read("a.csv", "text\n5\" nail\n"), Texts{"5\" nail"});  // no quote at the field's start: a letter
}

TEST_F(Documents, bad_rows_are_left_out_and_the_rest_is_read) {
    EXPECT_EQ(read("a.csv", "id,text\n1,a\n2\n3,b,c\n4,\"x\"y\n5,\xFF\n6,good\n"), (Texts{"a", "", "good"}));
    ASSERT_EQ(bad.count, 4u);
    const char* expected[] = {":3: columns: 1 where the header has 2", ":4: columns: 3",
                              ":5: in column 2 there is more",
                              ":6: byte 0 of the text (value 255) is not UTF-8; name its encoding with --encoding"};
    for (int i = 0; i < 4; i++) {
        const std::string message = bad.first[i].place + ": " + bad.first[i].what;
        EXPECT_NE(message.find(expected[i]), std::string::npos) << message;
    }
    EXPECT_NE(error("a.csv", "v1,v2\nham,a\n").find("a.csv:1: the header has no column \"text\" (it has: v1, v2)"),
              std::string::npos);
    EXPECT_NE(error("a.csv", "id;text\n1;a\n").find("its columns seem to be separated by ';'"), std::string::npos);
    EXPECT_NE(error("a.csv", "id\ttext\n1\ta\n").find("read it with --format tsv"), std::string::npos);
    EXPECT_NE(error("a.csv", "text\nok\n\"never closed\n\n").find("a.csv:3: a quote opens in the row"),
              std::string::npos);
}

TEST_F(Documents, too_long_records_are_left_out) {
    const std::string filler(5000, 'x');
    const DocumentOptions options{.block_bytes = 64, .max_record_bytes = 1000};
    EXPECT_EQ(read("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"" + filler + "\"}\n{\"text\":\"b\"}\n", options),
              (Texts{"a", "b"}));
    ASSERT_EQ(bad.count, 1u);
    EXPECT_NE((bad.first[0].place + bad.first[0].what).find("a.jsonl:2a record of more than 1000 bytes"),
              std::string::npos)
        << bad.first[0].place << bad.first[0].what;
    EXPECT_EQ(read("a.json", "[{\"text\":\"a\"},\n{\"text\":\"" + filler + "\"},{\"text\":\"b\"}]", options),
              (Texts{"a", "b"}));
    EXPECT_EQ(bad.count, 1u);
    EXPECT_EQ(read("a.csv", "text\na\n\"" + filler + "\"\nb\n", options), (Texts{"a", "b"}));
    EXPECT_EQ(bad.count, 1u);
}

TEST_F(Documents, the_first_key_that_a_record_has_is_its_text) {
    EXPECT_EQ(read("a.jsonl", "{\"story\":\"s\"}\n{\"content\":\"c\",\"text\":\"t\"}\n{\"content\":\"d\"}",
                   {.text_keys = {"text", "content", "story"}}),
              (Texts{"s", "t", "d"}));
    EXPECT_EQ(read("a.jsonl", "{\"id\":123456789012345678901234567890,\"text\":\"big number\"}"), Texts{"big number"});
}

TEST_F(Documents, instructions_and_conversations_are_named) {
    const struct {
        const char *record, *expected;
    } cases[] = {
        {R"({"instruction":"i","input":"","output":"o"})", "an instruction record as in Alpaca and Belle"},
        {R"({"conversations":[{"from":"human","value":"v"}]})", "a conversation (conversations:"},
        {R"({"messages":[{"role":"user","content":"v"}]})", "a conversation (messages:"},
    };
    for (const auto& c : cases) {
        const std::string message = error("a.jsonl", c.record);
        EXPECT_NE(message.find(c.expected), std::string::npos) << message;
    }
    EXPECT_EQ(read("a.jsonl", cases[0].record, {.text_keys = {"output"}}), Texts{"o"});
}

TEST_F(Documents, other_encodings_become_utf8) {
    EXPECT_EQ(read("a.txt", "caf\xE9", {.encoding = "latin-1"}), Texts{"caf\xC3\xA9"});
    EXPECT_EQ(read("a.txt", "it\x92s", {.encoding = "windows-1252"}), Texts{"it\xE2\x80\x99s"});
    EXPECT_EQ(read("a.txt", "\xCC\xC6\xCA\xAB", {.encoding = "gb18030"}), Texts{"\xE5\x94\x90\xE8\xAF\x97"});
    EXPECT_EQ(read("a.txt", std::string("\xFF\xFEh\0i\0", 6), {.encoding = "utf-16"}), Texts{"hi"});
    std::string chinese, expected;  // longer than the converter's buffers
    for (int i = 0; i < 200000; i++) chinese += "\xCC\xC6", expected += "\xE5\x94\x90";
    EXPECT_TRUE(read("a.txt", "x" + chinese, {.encoding = "gb18030"}) == Texts{"x" + expected});
    EXPECT_NE(error("a.txt", "ab\xFF\xFF", {.encoding = "gb18030"}).find("is not gb18030"), std::string::npos);
}

std::string zstd(std::string_view text) {
    std::string compressed(ZSTD_compressBound(text.size()), '\0');
    compressed.resize(ZSTD_compress(compressed.data(), compressed.size(), text.data(), text.size(), 3));
    return compressed;
}

TEST_F(Documents, compressed_files_are_decompressed_member_by_member) {
    std::string text;
    for (int i = 0; i < 100000; i++) text += "line " + std::to_string(i * 7919 % 10007) + "\n";
    const size_t half = text.size() / 2;
    for (const auto pack : {gzip, zstd}) {
        const std::string whole = pack(text), parts = pack(text.substr(0, half)) + pack("") + pack(text.substr(half));
        EXPECT_TRUE(read("a.txt", whole) == Texts{text});  // its name does not matter
        EXPECT_TRUE(read("a.txt.gz", parts) == Texts{text});
        const std::string record = pack("{\"text\":\"compressed\"}\n");
        EXPECT_EQ(read("a.jsonl.zst", record), Texts{"compressed"});
        for (const size_t keep : {whole.size() - 1, whole.size() / 2, size_t(5)}) {
            const std::string message = error("a.txt", whole.substr(0, keep));
            EXPECT_NE(message.find("truncated"), std::string::npos) << message;
        }
        std::string damaged = whole;
        damaged[whole.size() / 2] ^= 8;
        EXPECT_NE(error("a.txt", damaged), "");
        EXPECT_NE(error("a.txt", whole + "rubbish"), "");
    }
    EXPECT_EQ(read("a.txt", gzip("x") + std::string(1000, '\0')), Texts{"x"});
    EXPECT_NE(error("a.gz", "plain text").find("its name says that it is compressed"), std::string::npos);
    EXPECT_TRUE(read("a.gz", "").empty());
}

}  // namespace
}  // namespace kiln
