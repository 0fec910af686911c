// kiln tokenizer: the messages and exit codes of the real program for a beginner's mistakes.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/archives.h"
#include "tests/support/process.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/io/file.h"
#include "tokenizer/unicode/utf8.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

class TokenizerCli : public testing::Test {
protected:
    static Finished kiln(Args args, const std::string& input = "") {
        return run_program(program_path("kiln"), args, input);
    }
    Finished train(const std::string& input, const Args& more) {
        Args args{"tokenizer", "train", "--input", input, "--output", output(), "--overwrite"};
        args.insert(args.end(), more.begin(), more.end());
        return kiln(args);
    }
    static void expect_said(const Finished& result, int code, const Args& parts) {
        EXPECT_EQ(result.code, code) << result.err;
        for (const std::string& part : parts) {
            EXPECT_NE(result.err.find(part), std::string::npos) << "lacks: " << part << "\n" << result.err;
        }
    }
    fs::path output() const { return dir_ / "tokenizer"; }
    Tokenizer trained() const { return Tokenizer::load(output()); }

    // The 256 bytes as .tiktoken has them.
    fs::path ranks() const {
        constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        std::string text;
        for (int byte = 0; byte < 256; ++byte) {
            text += {kDigits[byte >> 2], kDigits[(byte & 3) << 4], '=', '='};
            text += concat(" ", byte, "\n");
        }
        return dir_.write("bytes.tiktoken", text);
    }

    TempDirectory dir_;
    const fs::path text_ = dir_.write("text.txt", kTinyText);
};

TEST_F(TokenizerCli, train_takes_what_prepare_takes) {
    const std::string text = "low lower\nlowest 低 lowest\n", other = "{\"text\": \"wide wider widest\", \"n\": NaN}\n";
    const std::string record = "{\"content\": \"low lower\\nlowest 低 lowest\\n\"}\n";
    const std::string gb18030 = "low lower\nlowest \xB5\xCD lowest\n";
    dir_.write("folder/sub/a.jsonl", record);
    dir_.write("folder/README.md", "# wide wider widest\n");
    dir_.write("folder/test/b.jsonl", other);
    dir_.write("folder/train/c.jsonl", "");
    const std::string plain = dir_.write("plain.txt", text);
    const struct {
        std::string input;
        Args more;
    } cases[] = {
        {dir_.write("a.jsonl", record + other), {"--text-key", "content"}},
        {dir_.write("a.json", "[" + record + "]"), {"--text-key", "content"}},
        {dir_.write("a.csv", "n,content\n1,\"" + text + "\"\n"), {"--text-key", "content"}},
        {dir_.write("a.jsonl.gz", gzip(record)), {"--text-key", "content"}},
        {dir_.write("a.txt.gz", gzip(text)), {}},
        {dir_.write("gzip.txt", gzip(text)), {}},
        {dir_.write("a.tar", tar_member("a.txt", text) + tar_member("a.png", "x") + kTarEnd), {}},
        {dir_.write("gb.txt", gb18030), {"--encoding", "GBK"}},
        {dir_.write("mark.txt", "\xEF\xBB\xBF" + text), {}},
        {dir_ / "folder", {"--text-key", "content"}},
        {dir_ / "folder" / "**" / "a.*", {"--text-key", "content"}},
    };
    for (const std::string type : {"bpe", "char", "sentencepiece-bpe"}) {
        const Args options{
            "--type", type, "--vocab-size", type == "bpe" ? "262" : "16", "--special-tokens", "<|endoftext|>,<unk>"};
        ASSERT_EQ(train(plain, options).code, 0);
        const std::string expected = trained().to_json();
        for (const auto& c : cases) {
            Args args = options;
            args.insert(args.end(), c.more.begin(), c.more.end());
            const Finished result = train(c.input, args);
            ASSERT_EQ(result.code, 0) << c.input << result.err;
            EXPECT_EQ(trained().to_json(), expected) << type << " " << c.input;
        }
    }
    expect_said(train(dir_ / "a.tar", {"--vocab-size", "262"}), 0, {"passed over", "a.tar:a.png"});
    expect_said(train(dir_ / "folder", {"--vocab-size", "262", "--text-key", "content"}), 0,
                {"passed over", "folder/README.md", "named for validation or test"});
    expect_said(train(cases[1].input, {"--vocab-size", "262"}), 1,
                {"a.json:1: ", "the record has no field", "--text-key"});
    fs::remove_all(output());
}

TEST_F(TokenizerCli, train_refuses_what_is_not_text_and_says_what_the_bytes_look_like) {
    const std::string gbk = "\xB4\xB2\xC7\xB0\xC3\xF7\xD4\xC2\xB9\xE2", latin =
                                                                            "Gr\xFC\xDF"
                                                                            "e aus M\xFCnchen, \xDC"
                                                                            "bung";
    const std::string big5 = "\xA7\xC9\xAB\x65\xA9\xFA\xA4\xEB\xA5\xFA\xBA\xC3\xAC\x4F\xA6\x61\xA4\x57\xC1\xF7";
    for (const std::string type : {"bpe", "char", "sentencepiece-bpe"}) {
        const auto refuse = [&](const std::string& input, const char* what) {
            expect_said(train(input, {"--type", type, "--vocab-size", "300"}), 1, {what});
            EXPECT_FALSE(fs::exists(output()));
        };
        refuse(dir_.write("a.parquet", "PAR1"), "is a Parquet file; convert it first");
        refuse(dir_.write("nul.txt", std::string("a\0b", 3)), "byte 1 is NUL");
        refuse(dir_.write("late.txt", std::string(5000, 'a') + '\0'), "late.txt: is not text: byte 5000 is NUL");
        refuse(dir_.write("gbk.txt", "a\n" + gbk),
               "first at byte 2; its bytes look like gb18030: read it with --encoding");
        refuse(dir_.write("big5.txt", big5), "its bytes look like big5");
        refuse(dir_.write("latin.txt", latin), "name its encoding with --encoding (latin-1");
        refuse(dir_ / "*.none", "no file matches");
    }
    ASSERT_EQ(train(text_, {"--vocab-size", "300"}).code, 0);
    expect_said(kiln({"prepare", "--input", dir_ / "gbk.txt", "--tokenizer", output(), "--output", dir_ / "shards"}), 1,
                {"gbk.txt:2: byte 2 (value 180) is not UTF-8; its bytes look like gb18030: read it with --encoding"});
}

TEST_F(TokenizerCli, spaces_around_the_commas_of_special_tokens_are_no_part_of_them) {
    ASSERT_EQ(train(text_, {"--vocab-size", "300", "--special-tokens", " <s>, <pad> ,<a b>", "</s>"}).code, 0);
    int id = 0;
    for (const char* token : {"<s>", "<pad>", "<a b>", "</s>"}) EXPECT_EQ(trained().token_id(token), id++) << token;
}

TEST_F(TokenizerCli, characters_without_unk_are_warned_of) {
    const Finished without = train(text_, {"--type", "char"});
    expect_said(without, 0, {"will be refused", "--special-tokens '<|endoftext|>,<unk>'"});
    const Finished with = train(text_, {"--type", "char", "--special-tokens", "<|endoftext|>,<unk>"});
    EXPECT_EQ(with.code, 0) << with.err;
    EXPECT_EQ(with.err.find("refused"), std::string::npos) << with.err;
}

TEST_F(TokenizerCli, sentencepiece_names_the_options_that_kiln_has) {
    std::string rare;
    for (int i = 0; i < 400; ++i) append_utf8(rare, 0x4E00 + i), rare += i % 20 == 19 ? "\n" : "";
    const Finished small = train(dir_.write("rare.txt", rare), {"--type", "sentencepiece-bpe", "--vocab-size", "300"});
    expect_said(small, 1, {"Increase --vocab-size or decrease --character-coverage, for example to 0.995"});
    EXPECT_EQ(small.err.find("character_coverage"), std::string::npos) << small.err;
}

TEST_F(TokenizerCli, ranks_without_special_tokens_are_warned_of_and_prepare_says_how_to_repair_it) {
    const Args import{"tokenizer", "import", ranks(), "--output", output(), "--pre-tokenizer", "gpt2"};
    expect_said(kiln(import), 0, {"cannot separate documents", "--special-tokens '<|endoftext|>=50256'"});
    expect_said(kiln({"prepare", "--input", text_, "--tokenizer", output(), "--output", dir_ / "shards"}), 1,
                {"no end-of-text token", "train it", "again with --special-tokens"});
    Args with = import;
    with.insert(with.end(), {"--special-tokens", "<|endoftext|>=256", "--overwrite"});
    EXPECT_EQ(kiln(with).err.find("separate"), std::string::npos);
}

TEST_F(TokenizerCli, another_tokenizer_in_the_output_is_kept_without_overwrite) {
    const Args import{"tokenizer", "import", ranks(), "--output", dir_ / "llm", "--pre-tokenizer", "gpt2"};
    const Args train{"tokenizer", "train", "--input", text_, "--output", dir_ / "llm", "--vocab-size", "262"};
    for (const std::string name : {"tokenizer.model", "tokenizer.json", "chat_template.jinja"}) {
        const fs::path theirs = dir_.write("llm/" + name, "theirs");
        for (const Args& args : {import, train}) {
            expect_said(kiln(args), 1, {theirs.string() + ": would be replaced or removed", "--overwrite"});
            EXPECT_EQ(read_file(theirs), "theirs");
        }
        fs::remove(theirs);
        EXPECT_TRUE(fs::is_empty(dir_ / "llm"));
    }
    EXPECT_EQ(kiln(import).code, 0);
    EXPECT_EQ(kiln(import).code, 0) << "it changes nothing";
    expect_said(kiln(train), 1, {"would be replaced or removed"});
    Args with = train;
    with.push_back("--overwrite");
    EXPECT_EQ(kiln(with).code, 0);
    EXPECT_EQ(Tokenizer::load(dir_ / "llm").vocab_size(), 262);
}

TEST_F(TokenizerCli, lists_with_empty_or_equal_names_are_refused) {
    for (const std::string list : {",", "<a>,", "<a>,,<b>", ",<a>"}) {
        expect_said(train(text_, {"--vocab-size", "262", "--special-tokens", list}), 2,
                    {concat("the list \"", list, "\" has an empty item")});
    }
    expect_said(train(text_, {"--vocab-size", "262", "--special-tokens", "<a>,<a>"}), 2, {"\"<a>\" is given twice"});
    expect_said(train(text_, {"--vocab-size", "262", "--text-key", "\xFF"}), 2, {"--text-key: is not UTF-8"});
    EXPECT_FALSE(fs::exists(output() / "tokenizer.json"));
    const auto import = [&](const std::string& list) {
        return kiln({"tokenizer", "import", ranks(), "--output", output(), "--pre-tokenizer", "gpt2",
                     "--special-tokens", list});
    };
    expect_said(import(","), 2, {"the list \",\" has an empty item"});
    expect_said(import("<a>=256,<a>=257"), 2, {"--special-tokens: \"<a>\" is given twice"});
    expect_said(import("\xFF\xFF=256"), 2, {"is not a token and its id"});
    ASSERT_EQ(import("<a>=256").code, 0);
    expect_said(kiln({"tokenizer", "encode", "--tokenizer", output(), "--allow-special=,"}), 2, {"empty item"});
    expect_said(kiln({"tokenizer", "encode", "--tokenizer", output(), "--allow-special="}), 2, {"names no token"});
}

TEST_F(TokenizerCli, import_lists_the_names_it_knows) {
    expect_said(kiln({"tokenizer", "import", "gpt3", "--output", output()}), 1,
                {"gpt3: not found", "gpt2, r50k_base, p50k_base, cl100k_base, o200k_base"});
}

TEST_F(TokenizerCli, import_without_a_network_says_what_to_fetch_by_hand) {
    expect_said(kiln({"tokenizer", "import", "gpt2", "--output", output(), "--mirror", "http://127.0.0.1:9", "--cache",
                      dir_ / "cache"}),
                1,
                {"https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/encoder.json",
                 "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783", "gpt-2/encodings/main/vocab.bpe",
                 "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5", "--mirror DIR"});
}

TEST_F(TokenizerCli, inspect_shows_what_a_tokenizer_is_made_of) {
    const auto expect_rows = [&](const Args& rows) {
        const Finished result = kiln({"inspect", output()});
        for (const std::string& row : rows) {
            EXPECT_NE(result.out.find(row), std::string::npos) << "lacks: " << row << "\n" << result.out << result.err;
        }
    };
    ASSERT_EQ(train(text_, {"--vocab-size", "262", "--normalizer", "nfc", "--pre-tokenizer", "llama3"}).code, 0);
    expect_rows({"kind            byte-level BPE\n", "normalizer      nfc\n", "pre-tokenizer   llama3\n",
                 "byte fallback   not needed", "merges          5\n", "special         0 <|endoftext|>\n",
                 "end of text     0 <|endoftext|>, by tokenizer_config.json\n"});
    ASSERT_EQ(train(text_, {"--type", "char", "--special-tokens", "<unk>"}).code, 0);
    expect_rows({"kind            one token per character\n",
                 "byte fallback   no: a character without a token is unknown\n", "end of text     none"});
    ASSERT_EQ(train(text_, {"--type", "sentencepiece-bpe", "--vocab-size", "310", "--byte-fallback"}).code, 0);
    expect_rows({"kind            SentencePiece BPE\n", "normalizer      none\n", "byte fallback   yes\n",
                 "special         0 <unk>\n", "end of text     2 </s>, by tokenizer_config.json\n"});
}

TEST_F(TokenizerCli, encode_adds_the_tokens_that_begin_and_end_a_text) {
    ASSERT_EQ(train(text_, {"--vocab-size", "300", "--special-tokens", "<s>,<pad>,</s>,<unk>,<mask>"}).code, 0);
    const Args encode{"tokenizer", "encode", "--tokenizer", output(), "--bos", "--eos"};
    const std::string plain = kiln({"tokenizer", "encode", "--tokenizer", output()}, "fox\n").out;
    EXPECT_EQ(kiln(encode, "fox\n").out, "0 " + plain.substr(0, plain.size() - 1) + " 2\n");
    EXPECT_EQ(kiln(encode, "\n").out, "0 2\n");
    Args offsets = encode;
    offsets.push_back("--offsets");
    EXPECT_EQ(kiln(offsets, "\n").out, "0:0-0 2:0-0\n");
    // AutoTokenizer reads these.
    const auto config = nlohmann::json::parse(read_file(output() / "tokenizer_config.json"));
    EXPECT_EQ(config["bos_token"], "<s>");
    EXPECT_EQ(config["pad_token"], "<pad>");
    EXPECT_EQ(config["eos_token"], "</s>");
    EXPECT_EQ(config["unk_token"], "<unk>");
    EXPECT_EQ(config["mask_token"], "<mask>");
    ASSERT_EQ(train(text_, {"--vocab-size", "300", "--special-tokens", "</s>"}).code, 0);
    expect_said(kiln(encode, "fox\n"), 1, {"--bos: no file of", "names such a token"});
}

TEST_F(TokenizerCli, decode_takes_lists_as_json_and_python_print_them) {
    ASSERT_EQ(train(text_, {"--vocab-size", "300"}).code, 0);
    const Args decode{"tokenizer", "decode", "--tokenizer", output()};
    const std::string plain = kiln(decode, "10 20 30\n").out;
    EXPECT_FALSE(plain.empty());
    for (const char* list : {"[10, 20, 30]\n", "10,20,30\n", "[10,20,30]\r\n"}) {
        EXPECT_EQ(kiln(decode, list).out, plain) << list;
    }
    const Tokenizer tokenizer = trained();
    const auto line = [&](const char* bytes) {
        std::string ids;
        for (const int id : tokenizer.encode(bytes)) ids += std::to_string(id) + " ";
        return ids + "\n";
    };
    const std::string broken = line(
                                   "a\xE6\x9C"
                                   "b") +
                               line("\xFFz");
    EXPECT_EQ(kiln(decode, broken).out, "a\uFFFDb\n\uFFFDz\n");
    EXPECT_EQ(kiln({"tokenizer", "decode", "--raw", "--tokenizer", output()}, broken).out,
              "a\xE6\x9C"
              "b\n\xFFz\n");
    expect_said(kiln(decode, "[10, x]\n"), 1, {"standard input, line 1", "\"x\" is not a token id"});
}

// Half of a result with exit code 0 would pass for the whole.
TEST_F(TokenizerCli, standard_input_that_cannot_be_read_is_an_error) {
    ASSERT_EQ(train(text_, {"--vocab-size", "300"}).code, 0);
    for (const std::string action : {"encode", "decode"}) {
        for (const auto& [redirection, expected] : {std::pair{"</", "standard input: is a directory"},
                                                    {"<&-", "standard input: cannot be read"},
                                                    {"0>/dev/null", "standard input: cannot be read"}}) {
            const std::string command =
                concat("exec ", program_path("kiln"), " tokenizer ", action, " --tokenizer ", output(), " ");
            const Finished result = run_program("/bin/sh", {"-c", command + redirection});
            EXPECT_EQ(result.code, 1) << redirection;
            EXPECT_NE(result.err.find(expected), std::string::npos) << result.err;
        }
    }
}

TEST_F(TokenizerCli, paths_that_the_system_cannot_follow_are_named) {
    const fs::path loop = dir_ / "loop";
    fs::create_symlink("loop", loop);
    const std::string expected = loop.string() + ": cannot be examined: Too many levels of symbolic links";
    expect_said(kiln({"tokenizer", "encode", "--tokenizer", loop}), 1, {expected});
    expect_said(kiln({"tokenizer", "import", loop, "--output", output()}), 1, {expected});
    expect_said(kiln({"tokenizer", "import", "gpt2", "--mirror", loop, "--output", output()}), 1, {loop.string()});
}

TEST_F(TokenizerCli, temporary_files_of_a_killed_process_are_removed) {
    dir_.write("tokenizer/vocab.json.tmp-123", "half");
    dir_.write("tokenizer/mine.tmp-123", "");
    dir_.write("tokenizer/vocab.json.tmp-x", "");
    ASSERT_EQ(train(text_, {"--vocab-size", "262"}).code, 0);
    EXPECT_FALSE(fs::exists(output() / "vocab.json.tmp-123"));
    EXPECT_TRUE(fs::exists(output() / "mine.tmp-123") && fs::exists(output() / "vocab.json.tmp-x"));
}

}  // namespace
}  // namespace kiln
