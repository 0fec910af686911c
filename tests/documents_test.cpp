#include "tokenizer/documents.h"

#include <cctype>

#include <gtest/gtest.h>

#include "cpu_reference/error.h"
#include "tests/temp_directory.h"

namespace kiln {
namespace {

using Texts = std::vector<std::string>;

class Documents : public testing::Test {
protected:
    // Documents of one file, each put together from its pieces.
    Texts read(const std::string& name, std::string_view content, const DocumentOptions& options = {}) {
        return read_files({dir.write(name, content)}, options);
    }
    Texts read_files(const std::vector<std::filesystem::path>& files, const DocumentOptions& options = {}) {
        DocumentReader reader(files, options);
        Texts documents;
        pieces = 0;
        bool within = false;
        for (Piece piece; reader.next(piece); pieces++) {
            EXPECT_EQ(piece.starts_document, !within);
            if (piece.starts_document) documents.emplace_back();
            documents.back() += piece.text;
            cuts.push_back(piece.text);
            within = !piece.ends_document;
        }
        EXPECT_FALSE(within);
        EXPECT_EQ(reader.bytes_read(), reader.bytes_total());
        return documents;
    }
    std::string error(const std::string& name, std::string_view content, const DocumentOptions& options = {}) {
        return error_of([&] { read(name, content, options); });
    }
    TempDirectory dir;
    int pieces = 0;
    Texts cuts;
};

TEST_F(Documents, a_file_is_one_document_byte_for_byte) {
    EXPECT_EQ(read("a.txt", " one\r\n\r\ntwo\n\n"), Texts{" one\r\n\r\ntwo\n\n"});
    EXPECT_EQ(read("a.txt", "no newline"), Texts{"no newline"});
    EXPECT_EQ(read("a", "\xEF\xBB\xBFmark"), Texts{"mark"});  // any other name is text; the byte order mark goes
}

TEST_F(Documents, white_space_alone_is_no_document) {
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
    EXPECT_EQ(read("a.ndjson", "{\"body\":\"b\",\"text\":1}\n", {.text_key = "body"}), Texts{"b"});
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
        {"a.jsonl", "{\"text\":\"a\"}\n[1]", "a.jsonl:2: a record {\"text\": ...} is expected, not array"},
        {"a.jsonl", "{\"body\":\"a\",\"id\":1}", "a.jsonl:1: the record has no field \"text\" (it has: body, id)"},
        {"a.jsonl", "{\"text\":[]}", "a.jsonl:1: the field \"text\" holds array where text is expected"},
        {"a.jsonl", "{\"text\":\"\xFF\"}", "a.jsonl:1: not a JSON record"},
        {"a.jsonl", "{\"text\":\"\\ud800\"}", "a.jsonl:1: not a JSON record"},
        {"a.json", "[{\"text\":\"a\"}\n{\"text\":\"b\"}]", "a.json:2: a comma or ] is missing"},
        {"a.json", "[{\"text\":\"a\"},\n", "a.json:2: a record { ... } is expected"},
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
    // Far into a document of many pieces.
    std::string far;
    for (int i = 0; i < 1000; i++) far += "line\n";
    const std::string message = error("a.txt", far + "\xFF", {.piece_bytes = 64});
    EXPECT_NE(message.find("a.txt:1001: byte 5000 "), std::string::npos) << message;
}

// Pieces are put together again by read(); here it matters where they are cut.
TEST_F(Documents, long_documents_are_cut_where_every_splitter_cuts) {
    std::string text;
    for (int i = 0; i < 200; i++) text += i % 3 ? "word, \n\nword.\n  x\n(\n" : "plain line\nanother\n";
    for (size_t piece_bytes = 32; piece_bytes < 80; piece_bytes++) {
        cuts.clear();
        EXPECT_EQ(read("a.txt", text, {.piece_bytes = piece_bytes}), Texts{text});
        EXPECT_GT(pieces, 20);
        for (size_t i = 0; i + 1 < cuts.size(); i++) {
            EXPECT_EQ(cuts[i].back(), '\n') << i;
            EXPECT_TRUE(std::isalnum(cuts[i + 1].front())) << i;
            EXPECT_FALSE(std::isspace(cuts[i][cuts[i].size() - 2])) << i;
        }
    }
}

TEST_F(Documents, one_long_line_is_cut_between_words_or_else_between_characters) {
    std::string words, characters;
    for (int i = 0; i < 5000; i++) words += i % 7 ? "word " : "42 ";
    for (int i = 0; i < 5000; i++) characters += "\xE5\x94\x90";
    EXPECT_EQ(read("a.txt", words, {.piece_bytes = 64}), Texts{words});
    EXPECT_GT(pieces, 100);
    for (size_t i = 1; i < cuts.size(); i++) EXPECT_EQ(cuts[i].substr(0, 2), " w");
    EXPECT_EQ(read("a.txt", characters, {.piece_bytes = 64}), Texts{characters});  // valid UTF-8 in each piece
    EXPECT_GT(pieces, 50);
}

// The same document, alone or at any place of a file, in lines or in a record: cut at the same places.
TEST_F(Documents, cuts_depend_on_the_document_alone) {
    for (const int words_a_line : {50, 500}) {
        std::string text;
        for (int i = 0; i < 3000; i++) text += i % words_a_line ? "some words go here " : "and now a line that ends\n";
        while (text.back() == '\n' || text.back() == ' ') text.pop_back();
        const DocumentOptions options{.separator = "%", .piece_bytes = 1000};
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
    const auto files = find_documents({(dir / "single").string(), (dir / "d").string()});
    EXPECT_EQ(files, (std::vector<std::filesystem::path>{dir / "single", dir / "d/a/z.jsonl", dir / "d/b.txt",
                                                         dir / "d/c.md"}));
}

TEST_F(Documents, inputs_that_cannot_be_read_are_errors) {
    const auto find = [&](const std::filesystem::path& path) {
        return error_of([&] { find_documents({path.string()}); });
    };
    EXPECT_NE(find(dir / "none").find("none: not found"), std::string::npos);
    EXPECT_NE(find(dir.path()).find("no text in this directory"), std::string::npos);
    EXPECT_NE(find(dir.write("a.jsonl.zst", "")).find(".zst files cannot be read here"), std::string::npos);
    EXPECT_NE(find(dir.write("a.CSV", "")).find(".csv files cannot be read here"), std::string::npos);
    EXPECT_NE(error_of([] { find_documents({}); }).find("no text given"), std::string::npos);
}

}  // namespace
}  // namespace kiln
