// dev/run_tests.sh: no way for a test binary to end makes a failure look like success.
#include <gtest/gtest.h>

#include "tests/process.h"

namespace kiln {
namespace {

namespace fs = std::filesystem;

class RunTests : public testing::Test {
protected:
    // A stand-in for a test binary: a shell script.
    fs::path binary(const std::string& name, const std::string& body) {
        const fs::path path = directory_.write(name, "#!/bin/bash\n" + body + "\n");
        fs::permissions(path, fs::perms::owner_all);
        return path;
    }

    Finished run(const fs::path& second) {
        return run_program("dev/run_tests.sh", {binary("good", "echo '[  PASSED  ] 3 tests.'"), second});
    }

    TempDirectory directory_;
};

TEST_F(RunTests, binaries_that_pass_are_summed_up) {
    const Finished result = run(binary("other", "echo '[  PASSED  ] 2 tests.'"));
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(result.out.find("5 passed, 0 failed, 0 skipped"), std::string::npos) << result.out;
}

TEST_F(RunTests, skipped_tests_are_named_with_their_reasons_before_the_totals) {
    const Finished result =
        run(binary("other",
                   "echo '[ RUN      ] Gpu.adds'; echo 'a.cpp:3: Skipped'; echo 'no GPU here'; echo; "
                   "echo '[  SKIPPED ] Gpu.adds (0 ms)'; echo '[  PASSED  ] 2 tests.'; "
                   "echo '[  SKIPPED ] 1 test, listed below:'; echo '[  SKIPPED ] Gpu.adds'"));
    EXPECT_EQ(result.code, 0) << result.out;
    const std::string end = "skipped: Gpu.adds: no GPU here\n5 passed, 0 failed, 1 skipped\n";
    EXPECT_TRUE(result.out.ends_with(end)) << result.out;
}

TEST_F(RunTests, a_filter_that_matches_nothing_in_one_binary_is_no_failure) {
    EXPECT_EQ(run(binary("other", "echo '[  PASSED  ] 0 tests.'")).code, 0);
}

TEST_F(RunTests, a_binary_that_fails_dies_or_says_nothing_is_a_failure) {
    for (const char* body : {"echo '[  PASSED  ] 2 tests.'; echo '[  FAILED  ] 1 test, listed below:'; exit 1",
                             "kill -SEGV $$", "exit 3", "exit 0"}) {
        const Finished result = run(binary("other", body));
        EXPECT_EQ(result.code, 1) << body;
        EXPECT_NE(result.out.find(" 1 failed, 0 skipped"), std::string::npos) << body << "\n" << result.out;
    }
}

}  // namespace
}  // namespace kiln
