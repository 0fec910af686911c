// What the programs say about errors that the standard library throws: where, what, why, and what to do.
#include <gtest/gtest.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/train_program.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class SystemErrors : public TrainProgram {
protected:
    Args base() const {
        return {"-i", data(), "-e", "llama:layers=1,dim=16,heads=2,ctx=16", "-b", "4", "-x", "1", "--threads", "1"};
    }
    static void expect_said(const Finished& result, const std::string& message) {
        EXPECT_EQ(result.code, 1) << result.err;
        EXPECT_NE(result.err.find(message), std::string::npos) << message << "\n" << result.err;
        EXPECT_EQ(result.err.find("filesystem error"), std::string::npos) << result.err;
    }
};

TEST_F(SystemErrors, of_a_path_name_it_and_say_what_to_do) {
    const fs::path loop = directory_ / "loop", name = directory_ / std::string(300, 'a');
    fs::create_symlink("loop", loop);
    for (const auto& [path, why] :
         {std::pair{loop, "Too many levels of symbolic links"}, {name, "File name too long"}}) {
        const std::string reason = concat(": ", why);
        expect_said(train_cpu(base() + Args{"-o", path}), path.string());
        expect_said(train_cpu({"-o", path, "--resume"}), reason);
        expect_said(train_cpu(base() + Args{"--tokenizer", path}), reason);
        expect_said(run_program(program_path("kiln"), {"plot", path}), path.string());
    }
}

TEST_F(SystemErrors, of_a_current_directory_that_was_removed_say_so) {
    fs::create_directory(directory_ / "here");
    const Args removed{"-c", "cd \"$1\" && rmdir \"$1\" && shift && exec \"$0\" \"$@\"", program_path("train_gpt2"),
                       directory_ / "here"};
    expect_said(run_program("/bin/bash", removed + base() + Args{"-o", "out"}),
                "out: cannot make absolute path: No such file or directory; check this path, its permissions, and that "
                "the current directory still exists");
}

TEST_F(SystemErrors, of_a_thread_that_cannot_be_started_say_so) {
    const char* asan = std::getenv("ASAN_OPTIONS");
    for (const char* thread : {"0", "1"}) {  // with one thread that computes, all are started by the standard library
        expect_said(
            run_program("/usr/bin/env",
                        Args{concat("NO_THREAD=", thread),
                             concat("LD_PRELOAD=", (build_path() / "tests/programs/preload/threads.so").string()),
                             concat("ASAN_OPTIONS=", asan ? asan : "", ":verify_asan_link_order=0"),
                             program_path("train_gpt2")} +
                            base()),
            "no thread can be started: Resource temporarily unavailable; end other programs");
    }
}

}  // namespace
}  // namespace kiln
