#include "tests/reliability/faults.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <sstream>

namespace kiln::faults {
namespace {

struct OpenFile {
    std::string path;
    int number;
    bool unsynced = false;
};

struct State {
    Fault fault;
    std::map<int, OpenFile> open;
    std::vector<Operation> operations;
    int files = 0;
};

struct Shared {
    std::atomic<int64_t> calls{0}, durable{-1};
    char hit[PATH_MAX + 32] = "";
};

// Calls come before this library's constructors and after its destructors, so nothing here has one.
std::atomic<State*> active{nullptr};
std::mutex mutex;
bool real_syncs = false;

Shared& shared() {
    static Shared* const page = [] {
        void* memory = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) abort();
        return new (memory) Shared;
    }();
    return *page;
}

enum Kind {
    reads,
    opens_directory,
    creates,
    opens_to_write,
    writes,
    truncates,
    syncs,
    closes,
    renames,
    removes,
    makes
};

bool can_fail(Kind kind, int error) {
    switch (error) {
        case EINTR: return kind != opens_directory && kind != renames && kind != removes && kind != makes;
        case ENOSPC:
        case EDQUOT:
            return kind == creates || kind == writes || kind == syncs || kind == closes || kind == renames ||
                   kind == makes;
        case EROFS: return kind != reads && kind != opens_directory && kind != syncs && kind != closes;
        default: return true;
    }
}

bool can_happen(const Fault& fault, Kind kind) {
    switch (fault.action) {
        case Action::none:
        case Action::remove:
        case Action::empty:
        case Action::starve: return true;
        case Action::kill:
            return kind != reads && kind != opens_directory && kind != opens_to_write && kind != syncs &&
                   kind != closes;
        case Action::kill_within:
        case Action::shorten: return kind == writes;
        case Action::fail: return can_fail(kind, fault.error);
    }
    return false;
}

[[noreturn]] void die() {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

// By another process, whose calls do not count.
void remove_tree(const Fault& fault) {
    const char* const least = fault.action == Action::empty ? "1" : "0";
    const pid_t child = fork();
    if (child == 0) {
        execl("/usr/bin/find", "find", fault.root.c_str(), "-mindepth", least, "-delete", nullptr);
        _exit(1);
    }
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
}

// One call on a path below the root. The lock is held until the call is done, so that the records are in order.
class Call {
public:
    Call(Kind kind, const char* name, const std::string& path) : lock_(mutex) {
        state_ = active.load();
        if (!state_ || !below(path)) {
            state_ = nullptr;
            return;
        }
        if (!can_happen(state_->fault, kind)) return;
        if (state_->fault.action == Action::starve && shared().calls++ == 0) fail_allocation(state_->fault.at);
        if (state_->fault.action == Action::starve) return;
        const int64_t number = shared().calls++;
        const Fault& fault = state_->fault;
        if (fault.action == Action::none || !(number == fault.at || (fault.lasting && number > fault.at))) return;
        if (number == fault.at) snprintf(shared().hit, sizeof(Shared::hit), "%s %s", name, path.c_str());
        if (fault.action == Action::kill) die();
        if (fault.action == Action::remove || fault.action == Action::empty) remove_tree(fault);
        action_ = fault.action;
    }
    bool fails() const {
        if (action_ != Action::fail) return false;
        errno = state_->fault.error;
        return true;
    }
    // How many bytes are written.
    size_t bytes(size_t all) const {
        return action_ == Action::shorten || action_ == Action::kill_within ? (all + 1) / 2 : all;
    }
    void written() const {
        if (action_ == Action::kill_within) die();
    }
    State* state() const { return state_; }
    void record(Operation operation) const {
        if (!state_ || !state_->fault.record) return;
        const int error = errno;
        state_->operations.push_back(std::move(operation));
        errno = error;
    }

private:
    bool below(const std::string& path) const {
        const std::string& root = state_->fault.root.native();
        return path.starts_with(root) && (path.size() == root.size() || path[root.size()] == '/');
    }
    std::lock_guard<std::mutex> lock_;
    State* state_;
    Action action_ = Action::none;
};

// The absolute path of `name` as a call gets it; "" if no fault needs it.
std::string absolute(int directory, const char* name) {
    if (!active.load() || !name) return "";
    std::string base;
    if (*name != '/') {
        if (directory == AT_FDCWD) {
            base = std::filesystem::current_path().native();
        } else {
            const std::lock_guard<std::mutex> lock(mutex);
            const State* state = active.load();
            const auto found = state->open.find(directory);
            if (found != state->open.end()) base = found->second.path;
        }
        base += '/';
    }
    return std::filesystem::path(base + name).lexically_normal().native();
}

// The path of an open file below the root; "" for any other.
OpenFile file_of(int fd) {
    if (!active.load()) return {};
    const std::lock_guard<std::mutex> lock(mutex);
    const State* state = active.load();
    if (!state) return {};
    const auto found = state->open.find(fd);
    return found == state->open.end() ? OpenFile{} : found->second;
}

int open_file(int directory, const char* name, int flags, mode_t mode) {
    const auto real = [&] { return int(syscall(SYS_openat, directory, name, flags, mode)); };
    const std::string path = absolute(directory, name);
    if (path.empty()) return real();
    const bool writable = (flags & O_ACCMODE) != O_RDONLY;
    const Kind kind = flags & O_DIRECTORY           ? opens_directory
                      : flags & (O_CREAT | O_TRUNC) ? creates
                      : writable                    ? opens_to_write
                                                    : reads;
    const Call call(kind, "open", path);
    if (call.fails()) return -1;
    const int fd = real();
    if (fd < 0 || !call.state()) return fd;
    const int number = call.state()->files++;
    call.state()->open[fd] = {path, number};
    call.record({.kind = Operation::open, .path = path, .file = number});
    if (flags & O_TRUNC) call.record({.kind = Operation::truncate, .path = path, .file = number});
    return fd;
}

ssize_t write_file(int fd, const char* data, size_t bytes, off_t offset, bool at_offset) {
    const auto real = [&](size_t n) {
        return at_offset ? syscall(SYS_pwrite64, fd, data, n, offset) : syscall(SYS_write, fd, data, n);
    };
    const OpenFile file = file_of(fd);
    if (file.path.empty()) return real(bytes);
    const Call call(writes, "write", file.path);
    if (call.fails()) return -1;
    const ssize_t n = real(call.bytes(bytes));
    call.written();
    if (n > 0 && call.state()) {
        call.state()->open[fd].unsynced = true;
        if (!at_offset) offset = off_t(syscall(SYS_lseek, fd, 0, SEEK_CUR)) - n;
        call.record({.kind = Operation::write,
                     .path = file.path,
                     .file = file.number,
                     .offset = uint64_t(offset),
                     .data = std::string(data, size_t(n))});
    }
    return n;
}

template <class Real>
ssize_t read_file(int fd, Real real) {
    const OpenFile file = file_of(fd);
    if (file.path.empty()) return real();
    const Call call(reads, "read", file.path);
    return call.fails() ? -1 : real();
}

int sync_file(int fd, long number) {
    const auto real = [&] { return real_syncs ? int(syscall(number, fd)) : 0; };
    const OpenFile file = file_of(fd);
    if (file.path.empty()) return real();
    const Call call(syncs, "fsync", file.path);
    if (call.fails()) return -1;
    if (call.state()) call.state()->open[fd].unsynced = false;
    call.record({.kind = Operation::sync, .path = file.path, .file = file.number});
    return real();
}

int close_file(int fd) {
    const OpenFile file = file_of(fd);
    if (file.path.empty()) return int(syscall(SYS_close, fd));
    {
        const std::lock_guard<std::mutex> lock(mutex);
        if (State* state = active.load()) state->open.erase(fd);
    }
    const int result = int(syscall(SYS_close, fd));
    if (!file.unsynced) return result;  // it has nothing to report
    const Call call(closes, "close", file.path);
    return call.fails() ? -1 : result;
}

int truncate_file(int fd, off_t bytes) {
    const auto real = [&] { return int(syscall(SYS_ftruncate, fd, bytes)); };
    const OpenFile file = file_of(fd);
    if (file.path.empty()) return real();
    const Call call(truncates, "ftruncate", file.path);
    if (call.fails()) return -1;
    call.record({.kind = Operation::truncate, .path = file.path, .file = file.number, .offset = uint64_t(bytes)});
    return real();
}

// A call that changes a directory. It is recorded only if it was done.
template <class Real>
int change(Kind kind, const char* name, Operation operation, Real real) {
    if (operation.path.empty()) return real();
    const Call call(kind, name, operation.path);
    if (call.fails()) return -1;
    const int result = real();
    if (result == 0) call.record(std::move(operation));
    return result;
}

int rename_file(int from_directory, const char* from, int to_directory, const char* to, unsigned flags) {
    return change(renames, flags & RENAME_EXCHANGE ? "exchange" : "rename",
                  {.kind = flags & RENAME_EXCHANGE ? Operation::exchange : Operation::rename,
                   .path = absolute(from_directory, from),
                   .to = absolute(to_directory, to)},
                  [&] { return int(syscall(SYS_renameat2, from_directory, from, to_directory, to, flags)); });
}

int remove_name(int directory, const char* name, int flags) {
    return change(removes, flags & AT_REMOVEDIR ? "rmdir" : "unlink",
                  {.kind = Operation::remove, .path = absolute(directory, name)},
                  [&] { return int(syscall(SYS_unlinkat, directory, name, flags)); });
}

int make_directory(int directory, const char* name, mode_t mode) {
    return change(makes, "mkdir", {.kind = Operation::make_directory, .path = absolute(directory, name)},
                  [&] { return int(syscall(SYS_mkdirat, directory, name, mode)); });
}

int make_link(const char* target, int directory, const char* name) {
    return change(makes, "symlink", {.kind = Operation::make_link, .path = absolute(directory, name), .to = target},
                  [&] { return int(syscall(SYS_symlinkat, target, directory, name)); });
}

__attribute__((constructor)) void begin_in_program() {
    shared();
    const char* text = std::getenv("KILN_FAULT");
    if (!text) return;
    std::istringstream in(text);
    Fault fault;
    int action = 0;
    in >> fault.root >> action >> fault.at >> fault.error >> fault.lasting, fault.action = Action(action);
    begin(fault);
}

}  // namespace

void begin(const Fault& fault) {
    end();
    State* state = new State;
    state->fault = fault;
    shared().calls = 0;
    shared().durable = -1;
    shared().hit[0] = '\0';
    active = state;
}

void end() {
    State* state = active.exchange(nullptr);
    delete state;
}

int64_t calls() {
    return shared().calls;
}

const char* hit() {
    return shared().hit;
}

void set_durable(int64_t version) {
    const std::lock_guard<std::mutex> lock(mutex);
    shared().durable = version;
    State* state = active.load();
    if (state && state->fault.record) {
        state->operations.push_back({.kind = Operation::durable, .path = "", .offset = uint64_t(version)});
    }
}

int64_t durable() {
    return shared().durable;
}

const std::vector<Operation>& recorded() {
    return active.load()->operations;
}

void set_real_syncs(bool real) {
    real_syncs = real;
}

}  // namespace kiln::faults

// ---- the C library's calls

using namespace kiln::faults;

extern "C" {
#define KILN_OPEN_MODE                   \
    va_list list;                        \
    mode_t mode = 0;                     \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_start(list, flags);           \
        mode = va_arg(list, mode_t);     \
        va_end(list);                    \
    }

int open(const char* name, int flags, ...) {
    KILN_OPEN_MODE
    return open_file(AT_FDCWD, name, flags, mode);
}
int openat(int directory, const char* name, int flags, ...) {
    KILN_OPEN_MODE
    return open_file(directory, name, flags, mode);
}
ssize_t write(int fd, const void* data, size_t bytes) {
    return write_file(fd, static_cast<const char*>(data), bytes, 0, false);
}
ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
    return write_file(fd, static_cast<const char*>(data), bytes, offset, true);
}
ssize_t read(int fd, void* data, size_t bytes) {
    return kiln::faults::read_file(fd, [&] { return syscall(SYS_read, fd, data, bytes); });
}
ssize_t pread(int fd, void* data, size_t bytes, off_t offset) {
    return kiln::faults::read_file(fd, [&] { return syscall(SYS_pread64, fd, data, bytes, offset); });
}
int fsync(int fd) {
    return sync_file(fd, SYS_fsync);
}
int fdatasync(int fd) {
    return sync_file(fd, SYS_fdatasync);
}
int close(int fd) {
    return close_file(fd);
}
int ftruncate(int fd, off_t bytes) noexcept {
    return truncate_file(fd, bytes);
}
int truncate(const char* name, off_t bytes) noexcept {
    const int fd = open_file(AT_FDCWD, name, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0) return -1;
    const int result = truncate_file(fd, bytes), error = errno;
    close_file(fd);
    errno = error;
    return result;
}
// The C library closes the directory's descriptor itself.
int closedir(DIR* directory) {
    using Close = int (*)(DIR*);
    static const Close real = reinterpret_cast<Close>(dlsym(RTLD_NEXT, "closedir"));
    {
        const std::lock_guard<std::mutex> lock(kiln::faults::mutex);
        if (State* state = active.load()) state->open.erase(dirfd(directory));
    }
    return real(directory);
}
int rename(const char* from, const char* to) noexcept {
    return rename_file(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int from_directory, const char* from, int to_directory, const char* to) noexcept {
    return rename_file(from_directory, from, to_directory, to, 0);
}
int renameat2(int from_directory, const char* from, int to_directory, const char* to, unsigned flags) noexcept {
    return rename_file(from_directory, from, to_directory, to, flags);
}
int unlink(const char* name) noexcept {
    return remove_name(AT_FDCWD, name, 0);
}
int unlinkat(int directory, const char* name, int flags) noexcept {
    return remove_name(directory, name, flags);
}
int rmdir(const char* name) noexcept {
    return remove_name(AT_FDCWD, name, AT_REMOVEDIR);
}
int remove(const char* name) noexcept {
    struct stat status;
    if (lstat(name, &status) != 0) return -1;
    return remove_name(AT_FDCWD, name, S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0);
}
int mkdir(const char* name, mode_t mode) noexcept {
    return make_directory(AT_FDCWD, name, mode);
}
int mkdirat(int directory, const char* name, mode_t mode) noexcept {
    return make_directory(directory, name, mode);
}
int symlink(const char* target, const char* name) noexcept {
    return make_link(target, AT_FDCWD, name);
}
int symlinkat(const char* target, int directory, const char* name) noexcept {
    return make_link(target, directory, name);
}
[[gnu::alias("open")]] int open64(const char*, int, ...);
[[gnu::alias("openat")]] int openat64(int, const char*, int, ...);
[[gnu::alias("pwrite")]] ssize_t pwrite64(int, const void*, size_t, off_t);
[[gnu::alias("pread")]] ssize_t pread64(int, void*, size_t, off_t);
[[gnu::alias("ftruncate")]] int ftruncate64(int, off_t) noexcept;
}
