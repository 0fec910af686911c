#pragma once
// The tests of this folder show what Kiln promises about kills, power cuts, failing system calls and failing
// allocations. This is the library that makes them happen. It replaces the C library's file functions and operator new,
// in the test itself or, through LD_PRELOAD, in another program.
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
    starve,       // allocation number `at`, counted from the first call below `root`, fails
};

// The fault that is injected: which call on a path below `root` is affected, and how. Only the calls to which the
// action applies are counted: for kill, those that change a file; for kill_within and shorten, writes; for fail, those
// that can return `error`.
struct Fault {
    std::filesystem::path root = {};
    Action action = Action::none;
    int64_t at = 0;  // the number of the call, from 0
    int error = 0;
    bool lasting = false;  // also every later call, as on a full disk
    bool record = false;   // for recorded()
};

// Counts calls from 0, and injects this fault instead of an earlier one. In another program,
// KILN_FAULT="ROOT ACTION AT [ERROR [LASTING]]", with the numbers of the enums, does so from the start.
void begin(const Fault& fault);
void end();

// These are shared with children that were forked later, so that a test learns what its killed child did.
int64_t calls();                    // how many were counted since begin()
const char* hit();                  // the first call that was affected, such as "fsync /run/main.log"; "": none
void set_durable(int64_t version);  // this version of what is saved must not be lost from now on
int64_t durable();                  // the last such version; -1: none since begin()

// A call as a power cut sees it.
struct Operation {
    enum Kind : uint8_t { open, write, truncate, sync, rename, exchange, remove, make_directory, make_link, durable };
    Kind kind = open;
    std::string path, to = {};  // `to`: of rename and exchange; of make_link, what the link holds
    int file = -1;              // number of the open file: of open, write, truncate and sync
    uint64_t offset = 0;        // of write; the new size of truncate; the version of durable
    std::string data = {};      // of write
};
const std::vector<Operation>& recorded();

// Whether fsync really syncs. By default it does nothing, because a test that only kills processes does not need its
// data on the disk.
void set_real_syncs(bool real);

// Counts allocations from 0, and throws bad_alloc from number `at`.
void fail_allocation(int64_t at);
// Returns the number of allocations since fail_allocation().
int64_t end_allocations();

}  // namespace kiln::faults
