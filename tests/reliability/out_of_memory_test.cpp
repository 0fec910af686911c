// Each allocation fails once: of a save, of a load, of a training run.
#include <gtest/gtest.h>

#include "tests/reliability/checkpoint_subject.h"
#include "tests/reliability/series.h"
#include "tests/reliability/training.h"
#include "tests/support/train_program.h"
#include "tools/cli/run_program.h"

namespace kiln {
namespace {

std::string open_files() {
    std::string files;
    for (int fd = 0; fd < 1024; fd++) {
        std::error_code closed;
        const auto path = std::filesystem::read_symlink(concat("/proc/self/fd/", fd), closed);
        if (!closed) files += concat(fd, ": ", path.string(), "\n");
    }
    return files;
}

// In a child, act() is called with one allocation after the other failing. It must throw, do without, or end the
// process as a program does where no exception can leave. If it throws, no file may stay open. `check`: what
// is wrong afterwards with what it returned; "": nothing.
void starve_everywhere(const std::string& name, const Subject& subject, int64_t stride,
                       const std::function<std::string()>& act,
                       const std::function<std::string(const ChildEnd&)>& check) {
    constexpr char kNotHit[] = "not hit", kLeaked[] = "a file stays open: ";
    Series series(name);
    for (int64_t at = 0; !series.hopeless(); at += stride) {
        subject.reset();
        const ChildEnd end = in_child([&] {
            end_where_memory_ends("out of memory");
            act();  // what is made once and kept is made now
            subject.reset();
            const std::string files = open_files();
            std::string result;
            std::exception_ptr failure;
            faults::fail_allocation(at);
            try {
                result = act();
            } catch (...) {
                failure = std::current_exception();
            }
            const bool hit = faults::end_allocations() > at;
            if (!hit) return std::string(kNotHit);
            if (failure) {
                if (open_files() != files) return concat(kLeaked, files, "then\n", open_files());
                throw Error("it failed");
            }
            return result;
        });
        if (end.text == kNotHit) {
            EXPECT_GE(at, stride) << "nothing was hit";
            break;
        }
        series.add(concat("allocation ", at), [&] {
            if (!end.crash.empty() || end.text.starts_with(kLeaked)) return end.text + end.crash;
            return check(end);
        });
    }
}

TEST(OutOfMemory, at_any_allocation_of_a_save_leaves_the_old_or_the_new_checkpoint) {
    const CheckpointSubject checkpoint;
    starve_everywhere(
        "out of memory, save", checkpoint, short_or_long(61, 1), [&] { return checkpoint.act(); },
        [&](const ChildEnd&) { return checkpoint.check(-1); });
}

TEST(OutOfMemory, at_any_allocation_of_a_load_is_reported_and_passes_over_no_checkpoint) {
    const CheckpointSubject checkpoint;
    starve_everywhere(
        "out of memory, load", checkpoint, short_or_long(31, 1), [&] { return checkpoint.load(); },
        [&](const ChildEnd& end) {
            if (end.failed || end.text == "7") return std::string();
            return concat("the newest checkpoint is 7, but '", end.text, "' was loaded");
        });
}

TEST(OutOfMemory, at_any_allocation_of_a_run_leaves_one_that_is_resumed) {
    const TrainingSubject run(2);
    run.let_lines_be_missing(true);  // a line of the logs without memory is noted, and training continues
    Series series("out of memory, resumed run");
    // Returns the number of allocations.
    const auto starve = [&](int64_t at) {
        run.reset();
        faults::begin({.root = run.root()});
        const ChildEnd end = in_child([&] {
            end_where_memory_ends("out of memory");
            faults::fail_allocation(at);
            try {
                run.act();
            } catch (...) {
                faults::end_allocations();
                throw;
            }
            return std::to_string(faults::end_allocations());
        });
        return end;
    };
    const int64_t all = std::stoll(starve(INT64_MAX).text);
    EXPECT_GT(all, 1000);
    for (int64_t at = 0; at < all; at += short_or_long(all / 40, all / 5000 + 1)) {
        const ChildEnd end = starve(at);
        const int64_t durable = faults::durable();
        faults::end();
        series.add(concat("allocation ", at), [&] { return !end.crash.empty() ? end.crash : run.check(durable); });
    }
}

// Here memory also ends for libraries that do not expect it: libc, libgomp, oneDNN.
#ifndef __SANITIZE_ADDRESS__  // it reserves terabytes
class AddressSpace : public TrainProgram {};

TEST_F(AddressSpace, under_any_limit_training_works_or_ends_with_a_message) {
    const auto ended_under = [&](int64_t kib) {
        return run_program(
            "/bin/sh", {"-c", concat("ulimit -v ", kib, " && exec \"$0\" \"$@\""), program_path("train_gpt2"), "-i",
                        data(), "-e", "llama:layers=2,dim=64,heads=2,ctx=32", "-b", "4", "-t", "32", "-x", "2", "-v",
                        "0", "-o", "", "--threads", "2"});
    };
    constexpr int kCannotStart = 127;  // of the dynamic loader
    Series series("limit of the address space");
    int trained = 0;  // times in a row: addresses are random, and so is what remains of the limit
    for (int64_t kib = 60'000; trained < short_or_long(2, 50) && !series.hopeless(); kib += short_or_long(5'000, 200)) {
        const Finished ended = ended_under(kib);
        trained = ended.code == 0 ? trained + 1 : 0;
        series.add(concat(kib, " KiB"), [&]() -> std::string {
            if (ended.code == 0) return "";
            if (ended.signal == 0 && (ended.code == 1 || ended.code == kCannotStart) && !ended.err.empty()) return "";
            return concat("exit code ", ended.code, ", signal ", ended.signal, ": ", ended.err);
        });
    }
}
#endif

}  // namespace
}  // namespace kiln
