// kiln prepare, inspect and plot: the real program on good and bad data, its messages and exit codes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <zstd.h>

#include <nlohmann/json.hpp>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"
#include "tests/support/process.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/io/file.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

class DataCli : public testing::Test {
protected:
    Finished kiln(const Args& args) { return run_program(program_path("kiln"), args); }

    Finished prepare(const fs::path& input, const Args& more = {}) {
        Args args{"prepare", "--tokenizer", run_.data(), "--output", output(), "--input", input};
        args.insert(args.end(), more.begin(), more.end());
        return kiln(args);
    }

    // It fails with `code`, says every one of `parts` on standard error and nothing on standard output.
    void expect_failure(const Finished& result, int code, const Args& parts) {
        EXPECT_EQ(result.code, code) << result.err;
        EXPECT_EQ(result.out, "");
        for (const std::string& part : parts) {
            EXPECT_NE(result.err.find(part), std::string::npos) << "lacks: " << part << "\n" << result.err;
        }
    }

    fs::path write(const std::string& name, const std::string& content) { return dir_.write(name, content); }
    fs::path output() const { return dir_ / "shards"; }

    TinyRun run_;
    TempDirectory dir_;
};

TEST_F(DataCli, prepares_what_inspect_then_shows) {
    const fs::path text = write("poems.txt", "one fox\n%\n床前明月光\n%\nthe lazy dog\n%\n");
    const Finished made = prepare(text, {"--document-separator", "%", "--val-fraction", "0.1"});
    ASSERT_EQ(made.code, 0) << made.err;
    EXPECT_NE(made.out.find("documents 2,"), std::string::npos) << made.out;
    EXPECT_NE(made.out.find("documents 1,"), std::string::npos) << made.out;

    const Finished directory = kiln({"inspect", output()});
    ASSERT_EQ(directory.code, 0) << directory.err;
    EXPECT_NE(directory.out.find("train_000000.bin"), std::string::npos) << directory.out;
    EXPECT_NE(directory.out.find("checksum verified"), std::string::npos) << directory.out;
    EXPECT_LT(directory.out.find("\nrecipe "), directory.out.find("train_000000.bin")) << "the summary comes first";
    const Finished shard = kiln({"inspect", output() / "train_000000.bin"});
    ASSERT_EQ(shard.code, 0) << shard.err;
    EXPECT_NE(shard.out.find("document 1      "), std::string::npos) << shard.out;

    expect_failure(prepare(text), 1, {"already holds shards", "--overwrite"});
    EXPECT_EQ(prepare(text, {"--overwrite"}).code, 0);
    EXPECT_EQ(prepare(text, {"--force"}).code, 0);  // its former name
}

TEST_F(DataCli, prepare_refuses_what_holds_no_text) {
    expect_failure(prepare(dir_ / "nope.txt"), 1, {"nope.txt: not found"});
    expect_failure(prepare(write("empty.txt", "")), 1, {"holds no text", "0 bytes"});
    expect_failure(prepare(write("blank.txt", "\n \n\n"), {"--documents", "line"}), 1, {"holds no text"});
    expect_failure(prepare("/dev/zero"), 1, {"/dev/zero: is a device"});
    expect_failure(prepare(write("program", std::string("\x7F"
                                                        "ELF\0\0\0\0",
                                                        8))),
                   1, {"is a program; give files of text"});
    EXPECT_FALSE(fs::exists(output())) << "a run that has written nothing leaves nothing";
    expect_failure(prepare(dir_ / "*.nothing"), 1, {"no file matches", "quoted"});
    EXPECT_FALSE(fs::exists(output() / "shards.json"));
}

TEST_F(DataCli, prepare_names_what_it_passes_over_and_does_not_train_on_a_card) {
    const fs::path parquet = write("clone/data/train-0.parquet", "PAR1" + std::string(60, '\0') + "PAR1");
    write("clone/README.md", "# Dataset card\n");
    expect_failure(prepare(dir_ / "clone"), 1,
                   {parquet.string() + ": is a Parquet file; convert it first: python3 -c \"import sys, pandas as p; "
                                       "p.read_parquet(sys.argv[1]).to_json("});
    EXPECT_FALSE(fs::exists(output() / "shards.json"));
    write("clone/data/train-0.parquet.jsonl", "{\"text\": \"a\"}\n");
    const Finished made = prepare(dir_ / "clone");
    EXPECT_EQ(made.code, 0) << made.err;
    EXPECT_NE(made.err.find("passed over, since their names are not those of data: " + parquet.string()),
              std::string::npos)
        << made.err;
}

TEST_F(DataCli, prepare_fails_where_most_records_are_bad) {
    const auto half = [](const std::string& bad) { return bad + "\n" + bad + "\n{\"text\":\"good\"}\n"; };
    expect_failure(prepare(write("bad.txt",
                                 "b\xFF"
                                 "d\n")),
                   1, {"bad.txt:1: byte 1 ", "is not UTF-8", "--encoding", "bad records: 1 of 1,"});
    expect_failure(prepare(write("k.jsonl", half("{\"txt\":\"b\"}"))), 1,
                   {"k.jsonl:1", "no field \"text\"", "it has: txt", "--text-key", "bad records: 2 of 3,"});
    expect_failure(prepare(write("n.jsonl", half("{\"text\": 3}"))), 1, {"n.jsonl:1", "number where text is expected"});
    expect_failure(prepare(write("s.jsonl", half("{\"text\": \"\\ud800\"}"))), 1, {"s.jsonl:1", "surrogate"});
    expect_failure(prepare(write("t.jsonl", half("{\"text\": \"a\"} x"))), 1, {"t.jsonl:1", "expected end of input"});
    expect_failure(prepare(write("deep.json", std::string(1000000, '['))), 1, {"deep.json:1"});
    expect_failure(prepare(write("a.json", "[{\"instruction\":\"i\",\"input\":\"\",\"output\":\"o\"}]")), 1,
                   {"a.json:1", "instruction record as in Alpaca and Belle", "--text-key output"});
    expect_failure(prepare(write("c.json", "[{\"conversations\":[{\"from\":\"human\",\"value\":\"v\"}]}]")), 1,
                   {"c.json:1", "it is a conversation", "template"});
    expect_failure(prepare(write("spam.csv", "v1,v2\nham,hello\n")), 1,
                   {"spam.csv:1: the header has no column \"text\" (it has: v1, v2)", "--text-key"});
    expect_failure(prepare(write("latin.csv", "v1,v2\nham,caf\xE9\n"), {"--text-key", "v2"}), 1,
                   {"latin.csv:2", "not UTF-8", "--encoding (latin-1"});
    EXPECT_FALSE(fs::exists(output() / "shards.json"));
}

TEST_F(DataCli, prepare_allows_special_tokens_and_divides_within_a_record) {
    const fs::path chat = write("chat.jsonl", "{\"text\":\"one<|endoftext|>two<|endoftext|>\"}\n");
    const Finished plain = prepare(chat);
    ASSERT_EQ(plain.code, 0) << plain.err;
    EXPECT_NE(plain.err.find("note: 2 times the text holds a special token (the first is <|endoftext|>)"),
              std::string::npos)
        << plain.err;
    const auto tokens_of = [&](const Args& more) {
        Args args{"--force"};
        args.insert(args.end(), more.begin(), more.end());
        const Finished made = prepare(chat, args);
        EXPECT_EQ(made.code, 0) << made.err;
        EXPECT_EQ(made.err.find("note:"), std::string::npos) << made.err;
        return made.out.substr(0, made.out.find(", bytes"));
    };
    const Tokenizer tokenizer = Tokenizer::load(run_.data());
    const size_t one = tokenizer.encode("one").size(), two = tokenizer.encode("two").size();
    EXPECT_EQ(tokens_of({"--allow-special"}), concat("train: tokens ", 1 + one + 1 + two + 1, ", documents 1"));
    EXPECT_EQ(tokens_of({"--allow-special=<|endoftext|>"}), concat("train: tokens ", one + two + 3, ", documents 1"));
    EXPECT_EQ(tokens_of({"--document-separator", "<|endoftext|>", "--val-fraction", "0"}),
              concat("train: tokens ", one + two + 2, ", documents 2"));
    expect_failure(prepare(chat, {"--force", "--allow-special=<none>"}), 1, {"\"<none>\" is not a special token"});
}

TEST_F(DataCli, prepare_counts_bytes_without_a_token_unless_strict) {
    nlohmann::json json = nlohmann::json::parse(read_file(run_.data() / "tokenizer.json"));
    json["model"]["vocab"].erase("Z");
    write("lacks/tokenizer.json", json.dump());
    const fs::path text = write("text.txt", "aZb Z");
    const Args base{"prepare", "--tokenizer", dir_ / "lacks", "--output", output(), "--input", text};
    const Finished made = kiln(base);
    ASSERT_EQ(made.code, 0) << made.err;
    EXPECT_NE(made.err.find("note: 2 bytes without a token were left out"), std::string::npos) << made.err;
    Args strict = base;
    strict.insert(strict.end(), {"--force", "--strict"});
    expect_failure(kiln(strict), 1, {"text.txt:1: the document holds a character without a token"});
    EXPECT_NE(kiln({"inspect", dir_ / "lacks"}).out.find("1 of 256 bytes have no token; in text they are left out"),
              std::string::npos);
}

TEST_F(DataCli, prepare_leaves_bad_records_out_unless_strict) {
    const fs::path lines = write("k.jsonl", "{\"text\":\"a\"}\n{\"txt\":\"b\"}\n{\"text\":\"c\"}\n");
    expect_failure(prepare(lines, {"--strict"}), 1, {"k.jsonl:2", "no field \"text\""});
    expect_failure(prepare(lines, {"--max-bad-fraction", "0.1"}), 1, {"bad records: 1 of 3,"});
    const Finished made = prepare(lines);
    EXPECT_EQ(made.code, 0) << made.err;
    EXPECT_NE(made.err.find("k.jsonl:2"), std::string::npos) << made.err;
    EXPECT_NE(made.err.find("bad records left out: 1\n"), std::string::npos) << made.err;
    EXPECT_NE(kiln({"inspect", output()}).out.find("1, left out\n"), std::string::npos);
}

TEST_F(DataCli, records_of_an_array_on_one_line_are_told_apart) {
    std::string array = "[{\"text\": \"a\"}";
    for (int i = 2; i <= 9; i++)
        array += i == 4 ? ", {\"txt\": 1}" : i == 7 ? ", {\"text\": \"\xFF\"}" : ", {\"text\": \"a\"}";
    const Finished made = prepare(write("a.json", array + "]"));
    EXPECT_EQ(made.code, 0) << made.err;
    for (const char* place : {"a.json:1: record 4: the record has no field", "a.json:1: record 7: not a JSON record"}) {
        EXPECT_NE(made.err.find(place), std::string::npos) << place << "\n" << made.err;
    }
}

TEST_F(DataCli, long_advice_is_given_once_and_not_in_the_parsers_words) {
    std::string alpaca;
    for (int i = 0; i < 9; i++) alpaca += "{\"instruction\":\"i\",\"input\":\"\",\"output\":\"o\"}\n";
    const Finished made = prepare(write("alpaca.jsonl", alpaca));
    expect_failure(made, 1, {"alpaca.jsonl:5: the same again (left out)", "bad records: 9 of 9,"});
    const size_t advice = made.err.find("--text-key output takes");
    EXPECT_NE(advice, std::string::npos) << made.err;
    EXPECT_EQ(made.err.find("--text-key output takes", advice + 1), std::string::npos) << made.err;
    EXPECT_EQ(made.err.find("left out", made.err.find("9 of 9")), made.err.rfind("left out,")) << made.err;

    const Finished broken = prepare(write("broken.jsonl", "{\"text\": \"a\", }\n"));
    expect_failure(broken, 1,
                   {"broken.jsonl:1: not a JSON record: at its byte 15: unexpected '}'; expected string literal"});
    EXPECT_EQ(broken.err.find("last read"), std::string::npos) << broken.err;
}

TEST_F(DataCli, encodings_have_their_usual_names_and_a_run_goes_by_none_of_them) {
    const fs::path text = write("poem.txt", "\xCC\xC6\xCA\xAB");
    for (const char* name : {"GB18030", "gbk", "GB2312"}) {
        ASSERT_EQ(prepare(text, {"--encoding", name, "--val-fraction", "0", "--force"}).code, 0) << name;
        EXPECT_NE(kiln({"inspect", output()}).out.find("\"encoding\":\"gb18030\""), std::string::npos) << name;
    }
    for (const char* name : {"UTF8", "utf_8", "Latin1", "ISO-8859-1", "cp1252", "Big-5"}) {
        const Finished result = prepare(write("plain.txt", "abc"), {"--encoding", name, "--force"});
        EXPECT_EQ(result.code, 0) << name << result.err;
    }
    expect_failure(prepare(text, {"--encoding", "gb1803"}), 2, {"--encoding: \"gb1803\"", "did you mean gb18030?"});
}

TEST_F(DataCli, advice_on_documents_is_for_plain_text) {
    const std::string advice = "--documents paragraph";
    EXPECT_NE(prepare(write("a.txt", "one")).err.find(advice), std::string::npos);
    const Finished records = prepare(write("a.jsonl", "{\"text\": \"one\"}\n"), {"--force"});
    EXPECT_NE(records.err.find("no validation split"), std::string::npos) << records.err;
    EXPECT_EQ(records.err.find(advice), std::string::npos) << records.err;
}

TEST_F(DataCli, prepare_reads_tables_of_other_encodings_and_keys) {
    const fs::path table = write("spam.csv", "v1,v2,,\nham,\"caf\xE9, two\",,\nspam,three,,\n");
    ASSERT_EQ(prepare(table, {"--text-key", "text,v2", "--encoding", "latin-1", "--val-fraction", "0"}).code, 0);
    const Finished shown = kiln({"inspect", output() / "train_000000.bin"});
    EXPECT_NE(shown.out.find("caf\xC3\xA9, two"), std::string::npos) << shown.out;
    EXPECT_NE(shown.out.find("three"), std::string::npos) << shown.out;
    fs::remove_all(output());
    const fs::path odd = write("odd.data", "{\"text\":\"as lines\"}\n{\"text\":\"more\"}\n");
    ASSERT_EQ(prepare(odd, {"--format", "jsonl", "--max-documents", "1"}).code, 0);
    EXPECT_NE(kiln({"inspect", output() / "train_000000.bin"}).out.find("as lines"), std::string::npos);
}

TEST_F(DataCli, prepare_reads_pipes_and_refuses_sockets) {
    const fs::path pipe = dir_ / "pipe.jsonl", socket = dir_ / "socket";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    std::thread writer([&] { std::ofstream(pipe) << "{\"text\":\"through a pipe\"}\n"; });
    EXPECT_EQ(prepare(pipe).code, 0);
    writer.join();
    EXPECT_NE(kiln({"inspect", output() / "train_000000.bin"}).out.find("through a pipe"), std::string::npos);
    ASSERT_EQ(::mknod(socket.c_str(), S_IFSOCK | 0600, 0), 0);
    expect_failure(prepare(socket), 1, {"socket: is a socket", "--input takes files, pipes and directories"});
}

TEST_F(DataCli, prepare_says_when_the_disk_is_full_and_is_resumed_when_there_is_room) {
    std::string lines;
    for (int i = 0; i < 20000; i++) lines += "{\"text\":\"the quick brown fox number " + std::to_string(i) + "\"}\n";
    const fs::path input = write("a.jsonl", lines);
    ASSERT_EQ(prepare(input).code, 0);
    const std::string whole = read_file(output() / "train_000000.bin");
    fs::remove_all(output());
    rlimit limit{};
    getrlimit(RLIMIT_FSIZE, &limit);
    const rlimit small{whole.size() / 2, limit.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    const Finished full = prepare(input);
    setrlimit(RLIMIT_FSIZE, &limit);
    expect_failure(full, 1, {"train_000000.bin.partial: cannot be written", "File too large"});
    EXPECT_NE(kiln({"inspect", output()}).err.find("interrupted"), std::string::npos);
    EXPECT_EQ(prepare(input).code, 0);
    EXPECT_TRUE(read_file(output() / "train_000000.bin") == whole);
}

// A few kilobytes decompress to a gigabyte of spaces: one line, one value or one row. Memory stays small.
TEST_F(DataCli, a_compressed_bomb_takes_no_memory) {
    std::string compressed;
    {
        ZSTD_CCtx* context = ZSTD_createCCtx();
        const std::string zeros(size_t(1) << 20, ' ');
        std::string out(ZSTD_CStreamOutSize(), '\0');
        for (int i = 0; i < 1024; i++) {
            ZSTD_inBuffer from{zeros.data(), zeros.size(), 0};
            const auto mode = i == 1023 ? ZSTD_e_end : ZSTD_e_continue;
            for (size_t left = 1; left != 0 && (from.pos < from.size || mode == ZSTD_e_end);) {
                ZSTD_outBuffer to{out.data(), out.size(), 0};
                left = ZSTD_compressStream2(context, &to, &from, mode);
                compressed.append(out, 0, to.pos);
                if (mode == ZSTD_e_continue && from.pos == from.size) break;
            }
        }
        ZSTD_freeCCtx(context);
    }
    EXPECT_LT(compressed.size(), 1000000u);
    for (const char* name : {"bomb.jsonl.zst", "bomb.json.zst", "bomb.csv.zst"}) {
        const Finished result = prepare(write(name, compressed), {"--threads", "2"});
        EXPECT_EQ(result.code, 1) << result.err;
        EXPECT_LT(result.peak_bytes, size_t(400) << 20) << name;
    }
}

TEST_F(DataCli, prepare_refuses_wrong_requests) {
    const fs::path text = write("a.txt", "text");
    expect_failure(prepare(text, {"--val-fraction", "nan"}), 2, {"--val-fraction: nan", "[0, 0.5]"});
    expect_failure(prepare(text, {"--shard-tokens", "2147483648"}), 2, {"--shard-tokens", "[1, 1073741824]"});
    expect_failure(prepare(text, {"--documents", "lines"}), 2, {"--documents: \"lines\"", "did you mean line?"});
    expect_failure(prepare(text, {"--document-separator", "\xFF"}), 2, {"--document-separator: is not UTF-8"});
    expect_failure(prepare(text, {"--text-key", "\xFF"}), 2, {"--text-key: is not UTF-8"});
    expect_failure(prepare(text, {"--thread", "2"}), 2, {"unknown option --thread; did you mean --threads?"});
    expect_failure(kiln({"prepare", "--input", text, "--tokenizer", dir_ / "none", "--output", output()}), 1, {"none"});
    expect_failure(kiln({"prepare", "--input", text, "--tokenizer", run_.data(), "--output", text}), 1,
                   {"cannot be created", "a.txt is not a directory"});
}

TEST_F(DataCli, inspect_names_what_it_cannot_read) {
    expect_failure(kiln({"inspect", dir_ / "nope"}), 1, {"nope: not found"});
    expect_failure(kiln({"inspect", write("short.bin", "x")}), 1, {"short.bin: not a shard"});
    expect_failure(kiln({"inspect", write("foreign.bin", std::string(5000, 'x'))}), 1, {"foreign.bin: not a shard"});
    expect_failure(kiln({"inspect", "/dev/null"}), 1, {"/dev/null", "is a device"});
    const fs::path shard = run_.data() / "val_000000.bin";
    std::string bytes = read_file(shard);
    bytes.back() ^= 1;
    write_file_atomic(shard, bytes);
    const Finished damaged = kiln({"inspect", shard});
    EXPECT_EQ(damaged.code, 1);
    EXPECT_NE((damaged.out + damaged.err).find("do not match their checksum"), std::string::npos) << damaged.err;
}

TEST_F(DataCli, plot_draws_a_run_and_refuses_what_is_none) {
    const fs::path svg = dir_ / "loss.svg";
    fs::create_directories(dir_ / "run");
    const auto plot = [&] { return kiln({"plot", "--run", dir_ / "run", "--output", svg}); };
    expect_failure(plot(), 1, {"metrics.jsonl: not found"});
    write("run/metrics.jsonl", "");
    expect_failure(plot(), 1, {"holds no loss yet"});
    write("run/metrics.jsonl", "garbage\n");
    expect_failure(plot(), 1, {"metrics.jsonl:1: not a line of metrics"});
    write("run/metrics.jsonl",
          "{\"step\":0,\"loss\":3.5}\n{\"step\":1,\"loss\":3.25}\n{\"step\":2,\"val_loss\":3.0}\n");
    const Finished drawn = plot();
    ASSERT_EQ(drawn.code, 0) << drawn.err;
    EXPECT_TRUE(read_file(svg).starts_with("<svg")) << read_file(svg).substr(0, 80);
    EXPECT_NE(read_file(svg).find(">run</text>"), std::string::npos);  // the title, without the directories above
    EXPECT_EQ(kiln({"plot", dir_ / "run"}).code, 0);
    EXPECT_EQ(read_file(dir_ / "run/loss.svg"), read_file(svg));
    expect_failure(kiln({"plot", dir_ / "run", dir_ / "two"}), 2, {"unexpected argument"});
    EXPECT_EQ(plot().code, 0) << "its own curve is replaced";
    for (const std::string content : {"", "notes", "<svg>mine</svg>\n"}) {
        write("loss.svg", content);
        expect_failure(plot(), 1, {"loss.svg: is not a loss curve that Kiln has drawn", "--overwrite"});
        EXPECT_EQ(read_file(svg), content);
    }
    EXPECT_EQ(kiln({"plot", "--run", dir_ / "run", "--output", svg, "--overwrite"}).code, 0);
}

TEST_F(DataCli, a_pipe_without_a_writer_is_refused_instead_of_waited_for) {
    const fs::path pipe = dir_ / "pipe";
    ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
    expect_failure(kiln({"inspect", pipe}), 1, {"pipe: is a pipe where a file is expected"});
}

TEST_F(DataCli, damage_that_hides_the_rest_of_a_file_is_an_error_and_a_wrong_element_is_not) {
    std::string rows = "text\n";
    for (int i = 0; i < 100; ++i) rows += (i == 60 ? "\"row\n" : "row\n");
    const fs::path csv = write("rows.csv", rows);
    expect_failure(prepare(csv), 1, {"rows.csv:62: a quote opens", "the rest of the file cannot be read"});
    const Finished start = prepare(csv, {"--max-bad-fraction", "1"});
    EXPECT_EQ(start.code, 0) << start.err;
    EXPECT_NE(start.err.find("bad records left out: 1"), std::string::npos) << start.err;

    const fs::path array = write("a.json", R"([{"text": "a"}, "oops, ] \" x", 5, [1, {"text": "z"}], {"text": "b"}, no
, null, {"text": "c"}])");
    const Finished made = prepare(array, {"--force", "--max-bad-fraction", "0.7", "--val-fraction", "0"});
    EXPECT_EQ(made.code, 0) << made.err;
    EXPECT_NE(made.out.find("documents 3,"), std::string::npos) << made.out << made.err;
    EXPECT_NE(made.err.find("bad records left out: 5"), std::string::npos) << made.err;
}

TEST_F(DataCli, interrupted_run_says_how_to_resume_and_is_resumed) {
    std::string text;
    for (int i = 0; i < 400'000; ++i) text += "a line of the text number " + std::to_string(i) + "\n";
    const fs::path input = write("long.txt", text);
    const Args args{"prepare", "--tokenizer", run_.data(),   "--output", output(),
                    "--input", input,         "--documents", "line"};
    ASSERT_EQ(kiln(args).code, 0);
    const std::string whole = read_file(output() / "train_000000.bin");
    fs::remove_all(output());
    const Finished stopped = run_program(
        "/bin/bash", {"-c", "\"$0\" \"$@\" & sleep 0.3; kill -INT $!; wait $!", program_path("kiln"), "prepare",
                      "--tokenizer", run_.data(), "--output", output(), "--input", input, "--documents", "line"});
    if (stopped.code == 3) {  // else it was done before the signal came
        EXPECT_NE(stopped.err.find("stopped by SIGINT"), std::string::npos) << stopped.err;
        EXPECT_NE(stopped.err.find("the same command resumes it"), std::string::npos) << stopped.err;
        const Finished again = kiln(args);
        EXPECT_EQ(again.code, 0) << again.err;
        EXPECT_NE(again.err.find("resuming the interrupted run"), std::string::npos) << again.err;
    }
    EXPECT_TRUE(read_file(output() / "train_000000.bin") == whole);
}

}  // namespace
}  // namespace kiln
