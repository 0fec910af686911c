// kiln prepare that is stopped or killed and then resumed writes the same bytes as an unbroken run.
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <cstdlib>
#include <set>

#include "tests/support/prepare_fixture.h"

namespace kiln {
namespace {

class PrepareResume : public Prepare {
protected:
    static bool changes_files(uint64_t call) {
        static const std::set<uint64_t> kCalls = {SYS_openat,   SYS_write,    SYS_pwrite64,  SYS_fsync,   SYS_close,
                                                  SYS_unlinkat, SYS_renameat, SYS_renameat2, SYS_mkdirat, SYS_ftruncate,
                                                  SYS_truncate,
#ifdef SYS_open  // x86
                                                  SYS_open,     SYS_unlink,   SYS_rename,    SYS_mkdir
#endif
        };
        return kCalls.contains(call);
    }
    // Runs prepare() in a child and kills it before the n-th system call that changes files after the block `last`.
    // Returns the number of these calls.
    int kill_at_change(int n, int last) {
        const pid_t child = fork();
        if (child == 0) {
            int seen = 0;
            options.progress = [&](const PrepareProgress&) {
                if (++seen < last) return;
                if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) _exit(2);
                raise(SIGSTOP);
            };
            _exit(error().empty() ? 0 : 1);
        }
        int calls = 0, status = 0;
        while (waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
            ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
            struct __ptrace_syscall_info stop {};
            ptrace(PTRACE_GET_SYSCALL_INFO, child, sizeof stop, &stop);
            calls += stop.op == PTRACE_SYSCALL_INFO_ENTRY && changes_files(stop.entry.nr);
            if (calls == n) kill(child, SIGKILL);
            ptrace(PTRACE_SYSCALL, child, 0, 0);
        }
        EXPECT_TRUE(calls == n ? WIFSIGNALED(status) : WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
        return calls;
    }
    std::string difference_without_mark(const std::map<std::string, std::string>& whole) {
        auto files = snapshot(options.output);
        files.erase(kUnfinishedName);
        return difference(files, whole);
    }
};

// The progress callback throws after every number of blocks. There are documents of several chunks, several shards, and
// one document that is held back for validation.
TEST_F(PrepareResume, run_that_stops_after_any_block_is_resumed_to_the_same_bytes) {
    Texts documents = many(120);
    documents[50] += "\xFF";
    std::mt19937 random(5);
    documents[60] = words(random, 400);
    input(documents);
    options.documents.chunk_bytes = 64;
    options.documents.block_bytes = 1200;
    options.shard_tokens = 1500;
    options.save_seconds = 0;
    options.threads = 2;
    for (const double fraction : {1e-9, 0.1}) {
        options.val_fraction = fraction;
        fs::remove_all(options.output);
        int blocks = 0;
        options.progress = [&](const PrepareProgress&) { blocks++; };
        prepare(options);
        const auto whole = snapshot(options.output);
        EXPECT_GT(blocks, 8);
        int resumed = 0;
        options.report = [&](const std::string& text) {
            resumed += text.find("resuming") != text.npos;
            EXPECT_EQ(text.find("starting again"), text.npos) << text;
            EXPECT_EQ(text.find("cannot"), text.npos) << text;
        };
        for (int stop = 1; stop <= blocks; stop++) {
            fs::remove_all(options.output);
            int seen = 0;
            options.progress = [&](const PrepareProgress&) {
                if (++seen == stop) throw std::runtime_error("stop");
                options.save_seconds = seen % 3 == 1 ? 0 : 1e9;  // data after the last save must be removed
            };
            options.save_seconds = 0;
            EXPECT_EQ(error(), "stop");
            options.save_seconds = 0;
            options.progress = [](const PrepareProgress&) {};
            prepare(options);
            ASSERT_EQ(difference(snapshot(options.output), whole), "") << stop;
        }
        EXPECT_EQ(resumed, blocks);
    }
}

TEST_F(PrepareResume, unfinished_run_with_other_input_is_started_again) {
    input(many(300));
    options.documents.block_bytes = 1000;
    options.save_seconds = 0;
    options.shard_tokens = 500;
    const auto stop = [&] {
        int blocks = 0;
        options.progress = [&](const PrepareProgress&) {
            if (++blocks == 5) throw std::runtime_error("stop");
        };
        EXPECT_EQ(error(), "stop");
        options.progress = [](const PrepareProgress&) {};
    };
    std::string said;
    options.report = [&](const std::string& text) { said += text; };
    stop();
    const auto unfinished = snapshot(options.output);
    input(many(301));  // the file has changed
    EXPECT_NE(error().find("unfinished run with other input files"), std::string::npos) << error();
    input(many(300));
    options.max_documents = 7;
    EXPECT_NE(error().find("unfinished run with other --max-documents;"), std::string::npos) << error();
    EXPECT_EQ(difference(snapshot(options.output), unfinished), "");  // the refusal changes nothing
    options.max_documents = 0;
    input(many(301));
    options.force = true;
    prepare(options);
    EXPECT_NE(said.find("starting again"), std::string::npos) << said;
    EXPECT_TRUE(documents_of(found().train) == many(301));

    for (const char* damage : {"marker", "shard"}) {
        stop();
        said.clear();
        if (damage == std::string("marker")) {
            std::string bytes = read_file(options.output / kUnfinishedName);
            bytes.back() ^= 1;
            dir.write("shards/shards.json.unfinished", bytes);
        } else {
            fs::remove(options.output / "train_000000.bin");
        }
        prepare(options);
        EXPECT_NE(said.find("starting again"), std::string::npos) << damage << said;
        EXPECT_TRUE(documents_of(found().train) == many(301));
    }

    // The first line of the marker as an earlier version wrote it.
    stop();
    said.clear();
    const std::string marker = read_file(options.output / kUnfinishedName);
    dir.write("shards/shards.json.unfinished",
              "kiln prepare has not finished this directory; run it again to go on.\n" +
                  marker.substr(marker.find('\n') + 1));
    options.force = false;
    prepare(options);
    EXPECT_EQ(said.find("starting again"), std::string::npos) << said;
    EXPECT_TRUE(documents_of(found().train) == many(301));
}

TEST_F(PrepareResume, is_resumed_with_other_spellings_of_paths_and_keeps_strict) {
    input(many(300));
    options.documents.block_bytes = 1000;
    options.save_seconds = 0;
    prepare(options);
    const auto whole = snapshot(options.output);
    fs::remove_all(options.output);
    int blocks = 0;
    options.progress = [&](const PrepareProgress&) {
        if (++blocks == 5) throw std::runtime_error("stop");
    };
    EXPECT_EQ(error(), "stop");
    options.progress = [](const PrepareProgress&) {};
    options.inputs = {(dir / "." / "tokenizer" / ".." / "input.txt").string()};
    options.tokenizer = dir / "." / "tokenizer" / "tokenizer.json";
    std::string said;
    options.report = [&](const std::string& text) { said += text; };
    prepare(options);
    EXPECT_NE(said.find("resuming"), std::string::npos) << said;
    const auto resumed = snapshot(options.output);
    EXPECT_EQ(resumed.at("train_000000.bin") == whole.at("train_000000.bin"), true);

    fs::remove_all(options.output);
    Texts documents = many(300);
    documents[3] += "\xFF";
    input(documents);
    options.max_bad_fraction = 0;
    EXPECT_NE(error().find("the shards are not finished"), std::string::npos) << error();
    options.strict = true;
    options.max_bad_fraction = 1;
    EXPECT_NE(error().find("input.txt:"), std::string::npos) << error();
}

TEST_F(PrepareResume, two_runs_do_not_write_into_one_directory) {
    input(many(30));
    fs::create_directory(options.output);
    const DirectoryLock other(options.output);
    EXPECT_NE(error().find("another process is writing to it"), std::string::npos) << error();
}

// kill -9 at many moments of a run: the directory is either complete or refused, and the next run resumes it.
TEST_F(PrepareResume, killed_run_never_looks_complete_and_is_resumed_to_the_same_bytes) {
    input(many(4000));
    options.shard_tokens = 8000;
    options.val_fraction = 0.05;
    options.threads = 2;
    options.documents.block_bytes = 2000;
    options.save_seconds = 0.01;
    const auto start = std::chrono::steady_clock::now();
    prepare(options);
    const auto duration =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start);
    const auto whole = snapshot(options.output);
    std::mt19937 random(4);
    int kills = 0;
    bool done = false;
    fs::remove_all(options.output);
    while (kills < 20 || !done) {
        const pid_t child = fork();
        ASSERT_GE(child, 0);
        if (child == 0) _exit(error().empty() ? 0 : 1);
        usleep(useconds_t(random() % uint64_t(duration.count() / 3)));
        if (kills < 20) kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        kills += WIFSIGNALED(status);
        done = WIFEXITED(status);
        ASSERT_TRUE(!done || WEXITSTATUS(status) == 0);
        const bool refused = !error_of([&] { found(); }).empty();
        EXPECT_TRUE(refused || has_shard_index(options.output));
        if (refused) continue;
        ASSERT_EQ(fs::exists(options.output / kUnfinishedName) ? error() : "", "");
        ASSERT_EQ(difference(snapshot(options.output), whole), "") << kills;
        fs::remove_all(options.output);
    }
}

// kill -9 before each system call that changes files, from the last block to the end: the same call of prepare()
// completes the data.
TEST_F(PrepareResume, run_killed_at_any_step_of_its_end_is_completed_to_the_same_bytes) {
    input(many(40));
    options.documents.block_bytes = 1000;
    options.shard_tokens = 1500;
    options.save_seconds = 0;
    options.threads = 1;  // this thread writes
    const int every = std::getenv("KILN_LONG") ? 1 : 13;
    for (const double fraction : {0.2, 1 - 1e-9}) {  // all documents are for validation: at the end, they are renamed
        options.val_fraction = fraction;
        fs::remove_all(options.output);
        int blocks = 0;
        options.progress = [&](const PrepareProgress&) { blocks++; };
        prepare(options);
        options.progress = [](const PrepareProgress&) {};
        const auto whole = snapshot(options.output);
        fs::remove_all(options.output);
        const int changes = kill_at_change(INT_MAX, blocks);
        EXPECT_GT(changes, 30);
        int marked = 0;
        for (int n = 1; n <= changes; n++) {
            if (n % every != 0 && n < changes - 4) continue;
            fs::remove_all(options.output);
            kill_at_change(n, blocks);
            std::string said;
            options.report = [&](const std::string& text) { said += text; };
            const bool mark = fs::exists(options.output / kUnfinishedName);
            if (mark && has_shard_index(options.output)) {
                marked++;
                ASSERT_EQ(difference_without_mark(whole), "") << n;
                options.max_documents = 3;
                EXPECT_NE(error().find("already holds shards"), std::string::npos) << error();  // another run
                options.max_documents = 0;
            }
            ASSERT_EQ(mark ? error() : "", "") << n;
            EXPECT_EQ(said.find("starting again"), std::string::npos) << n << said;
            EXPECT_EQ(said.find("cannot"), std::string::npos) << n << said;
            ASSERT_EQ(difference(snapshot(options.output), whole), "") << n;
            EXPECT_NE(error().find("already holds shards"), std::string::npos) << n << error();
        }
        EXPECT_GT(marked, 0);
    }
}

}  // namespace
}  // namespace kiln
