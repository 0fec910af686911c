#pragma once
// The tests of this folder show what Kiln promises about kills, power cuts, failing system calls and failing
// allocations. This is the library that makes them happen. It stands in for the C library's calls that read and change
// files, and for operator new, in the test itself or, by LD_PRELOAD, in a program.
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace kiln::faults {

enum class Action : uint8_t {
    none,
    kill,         // SIGKILL before the call
    kill_within,  // SIGKILL when half of the bytes are written
    fail,         // with `error`, without doing anything; close() closes
    shorten,      // half of the bytes are written
    remove,       // `rm -rf` of the root before the call
    empty,        // the same of all that is in the root
    starve,       // the allocation with the number `at` after the first call below `root` fails
};

// What happens at which call below `root`. Only calls count to which the action can happen: those that change something
// for kill, those that write for kill_within and shorten, and those that can return `error` for fail.
struct Plan {
    std::filesystem::path root = {};
    Action action = Action::none;
    int64_t at = 0;  // the number of the call, from 0
    int error = 0;
    bool lasting = false;  // also every later call, as on a full disk
    bool record = false;   // for recorded()
};

// Begins a plan; a plan before it is over.
// KILN_FAULT="ROOT ACTION AT [ERROR [LASTING]]", with the numbers of enums, begins one in a program.
void begin(const Plan& plan);
// Ends the plan.
void end();

// These are shared with children that were forked later, so that a test learns what its killed child did.
int64_t calls();                // that counted since begin()
const char* hit();              // the first call that the action happened to, such as "fsync /run/main.log"; "": none
void report(int64_t progress);  // keeps a number for the test, and records it
int64_t reported();             // the last one; -1: none since begin()

// A call as a power cut sees it.
struct Operation {
    enum Kind : uint8_t { open, write, truncate, sync, rename, exchange, remove, make_directory, make_link, report };
    Kind kind = open;
    std::string path, to = {};  // `to`: of rename and exchange; of make_link, what the link holds
    int file = -1;              // number of the open file: of open, write, truncate and sync
    uint64_t offset = 0;        // of write; the new size of truncate; the number of report
    std::string data = {};      // of write
};
const std::vector<Operation>& recorded();

// fsync does nothing, since the tests that kill only processes need no disk. It is so from the start in this library.
void set_real_syncs(bool real);

// Throws bad_alloc from the allocation with number `at`, from 0, of the allocations from now on.
void fail_allocation(int64_t at);
// Stops counting, and returns how many allocations there were.
int64_t end_allocations();

}  // namespace kiln::faults
