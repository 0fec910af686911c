#include "tokenizer/io/file.h"

#include <algorithm>
#include <csignal>
#include <thread>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "cpu_reference/interface/error.h"
#include "tests/support/temp_directory.h"

namespace kiln {
namespace {

using testing::ExitedWithCode;

size_t files_in(const std::filesystem::path& directory) {
    return size_t(std::distance(std::filesystem::directory_iterator(directory), {}));
}

TEST(OutputFile, write_and_write_at_compose_the_file) {
    TempDirectory dir;
    OutputFile file(dir / "a.bin");
    file.write("hello world");
    file.write_at(6, "there", 5);
    file.write("!");
    file.sync();
    file.close();
    EXPECT_EQ(read_file(dir / "a.bin"), "hello there!");
}

TEST(OutputFile, update_changes_part_of_an_existing_file) {
    TempDirectory dir;
    const auto path = dir.write("a", "12345");
    OutputFile file = OutputFile::update(path);
    file.write_at(1, "xy", 2);
    file.close();
    EXPECT_EQ(read_file(path), "1xy45");
    EXPECT_NE(error_of([&] { OutputFile::update(dir / "none"); }).find("No such file"), std::string::npos);
}

// How much of the first `bytes` of a file is in memory.
double resident(const std::filesystem::path& path, size_t bytes) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    void* const mapping = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0);
    const size_t page = size_t(::sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> pages((bytes + page - 1) / page);
    EXPECT_EQ(::mincore(mapping, bytes, pages.data()), 0);
    ::munmap(mapping, bytes);
    ::close(fd);
    return double(std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return p & 1; })) /
           double(pages.size());
}

TEST(OutputFile, write_behind_writes_to_the_disk_and_frees_memory) {
    TempDirectory dir;
    constexpr size_t kPart = size_t(1) << 20;
    std::string content;
    OutputFile begun(dir / "a.bin"), file(std::move(begun));
    for (int part = 0; part < 6; part++) {
        const std::string text(kPart, char('a' + part));
        file.write(text);
        content += text;
        if (part != 3) file.write_behind(content.size());  // parts may differ
    }
    file.write_at(1, "!", 1);  // bytes that are no longer in memory can be changed
    content[1] = '!';
    file.sync();
    struct statfs system {};
    ASSERT_EQ(::statfs(dir.path().c_str(), &system), 0);
    constexpr long kTmpfs = 0x01021994;  // a file system in memory
    if (system.f_type != kTmpfs) {
        EXPECT_LT(resident(dir / "a.bin", 3 * kPart), 0.5);
    }
    file.close();
    EXPECT_TRUE(read_file(dir / "a.bin") == content);

    OutputFile device("/dev/null");  // nothing to wait for
    device.write("ab");
    device.write_behind(1);
    device.write_behind(2);
}

// At the limit, the kernel takes a part of the write, and the next one fails.
TEST(OutputFile, a_short_write_is_continued) {
    TempDirectory dir;
    const auto child = [&] {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{1000, 1000};
        setrlimit(RLIMIT_FSIZE, &limit);
        OutputFile file(dir / "a");
        const std::string message = error_of([&] { file.write(std::string(1500, 'x')); });
        _exit(message.find("cannot be written: File too large") != std::string::npos ? 0 : 1);
    };
    EXPECT_EXIT(child(), ExitedWithCode(0), "");
    EXPECT_EQ(read_file(dir / "a").size(), 1000u);
}

TEST(OutputFile, full_disk_is_an_error_naming_the_file) {
    OutputFile file("/dev/full");
    const std::string message = error_of([&] { file.write("x"); });
    EXPECT_NE(message.find("/dev/full: cannot be written: No space left on device"), std::string::npos) << message;
}

TEST(OutputFile, missing_directory_is_an_error) {
    TempDirectory dir;
    const std::string message = error_of([&] { OutputFile file(dir / "no/such/file"); });
    EXPECT_NE(message.find("no/such/file: cannot be opened for writing: No such file or directory"), std::string::npos)
        << message;
}

TEST(ReadFile, returns_every_byte) {
    TempDirectory dir;
    std::string content(200'000, '\0');
    for (size_t i = 0; i < content.size(); i++) content[i] = char(i * 7);
    EXPECT_EQ(read_file(dir.write("a", content)), content);
    EXPECT_EQ(read_file(dir.write("empty", "")), "");
    EXPECT_FALSE(read_file("/proc/self/status").empty());  // its size is reported as 0
}

TEST(ReadFile, a_file_longer_than_its_bound_is_refused) {
    TempDirectory dir;
    const auto path = dir.write("a", "12345");
    EXPECT_EQ(read_file(path, 5), "12345");
    EXPECT_EQ(error_of([&] { read_file(path, 4); }),
              path.string() + ": is larger than 4 bytes, the most that is read of such a file");
    EXPECT_NE(error_of([&] { read_file("/proc/self/status", 10); }).find("is larger than 10 bytes"), std::string::npos);
}

// A pipe would be waited for, and /dev/zero never ends.
TEST(InputFile, anything_but_a_regular_file_is_refused_at_once) {
    TempDirectory dir;
    ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
    std::filesystem::create_symlink("/dev/zero", dir / "zero");
    std::filesystem::create_symlink(dir / "fifo", dir / "link");
    const auto refused = [](const std::filesystem::path& path, const char* kind) {
        const std::string expected = concat(path.string(), ": is a ", kind, " where a file is expected");
        EXPECT_EQ(error_of([&] { InputFile file(path); }), expected);
        EXPECT_EQ(error_of([&] { read_file(path); }), expected);
    };
    refused(dir / "fifo", "pipe");
    refused(dir / "link", "pipe");
    refused(dir / "zero", "device");
    refused(dir.path(), "directory");
}

TEST(OutputFile, a_pipe_is_refused_whether_or_not_it_is_read) {
    TempDirectory dir;
    ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
    EXPECT_NE(error_of([&] { OutputFile file(dir / "fifo"); }).find("a pipe or a device where a file is expected"),
              std::string::npos);
    const int reader = ::open((dir / "fifo").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    EXPECT_NE(error_of([&] { OutputFile file(dir / "fifo"); }).find("fifo: is a pipe where a file is expected"),
              std::string::npos);
    ::close(reader);
}

TEST(InputFile, stream_reads_pipes_and_devices_but_no_directory) {
    TempDirectory dir;
    ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
    const std::string sent(300'000, 'x');  // more than a pipe holds
    std::thread writer([&] {
        const int fd = ::open((dir / "fifo").c_str(), O_WRONLY | O_CLOEXEC);
        for (size_t at = 0; at < sent.size();) at += size_t(::write(fd, &sent[at], sent.size() - at));
        ::close(fd);
    });
    EXPECT_EQ(InputFile::stream(dir / "fifo").read_all(sent.size()), sent);
    writer.join();
    EXPECT_EQ(InputFile::stream("/dev/null").read_all(1), "");
    EXPECT_NE(error_of([] { InputFile::stream("/dev/zero").read_all(1'000'000); }).find("is larger than 1000000"),
              std::string::npos);
    EXPECT_NE(error_of([&] { InputFile::stream(dir.path()); }).find("is a directory"), std::string::npos);
}

TEST(InputFile, reads_at_any_place_while_the_file_does_not_change) {
    TempDirectory dir;
    const auto path = dir.write("a", "12345");
    InputFile begun(path), file(std::move(begun));
    char buffer[3];
    file.read_at(2, buffer, 3);
    EXPECT_EQ(std::string(buffer, 3), "345");
    EXPECT_NE(error_of([&] { file.read_at(3, buffer, 3); }).find("ends at byte 5"), std::string::npos);
    std::filesystem::resize_file(path, 3);
    EXPECT_NE(error_of([&] { file.read_at(2, buffer, 3); }).find("was truncated from 5 to 3 bytes"), std::string::npos);
    EXPECT_NE(error_of([&] { file.read_at(0, buffer, 3); }).find("was truncated from 5 to 3 bytes"), std::string::npos);
    EXPECT_NE(error_of([&] { file.check_unchanged(); }), "");
}

TEST(WriteFileAtomic, replaces_the_file_and_leaves_no_other) {
    TempDirectory dir;
    write_file_atomic(dir / "a", "first");
    write_file_atomic(dir / "a", "second");
    EXPECT_EQ(read_file(dir / "a"), "second");
    EXPECT_EQ(files_in(dir.path()), 1u);
}

// A limit on the size of files makes the write fail half way, as a full disk does.
TEST(WriteFileAtomic, failing_write_keeps_the_old_file_whole) {
    TempDirectory dir;
    write_file_atomic(dir / "a", "old");
    const auto child = [&] {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{1000, 1000};
        setrlimit(RLIMIT_FSIZE, &limit);
        const std::string message = error_of([&] { write_file_atomic(dir / "a", std::string(100'000, 'x')); });
        _exit(message.find("cannot be written: File too large") != std::string::npos ? 0 : 1);
    };
    EXPECT_EXIT(child(), ExitedWithCode(0), "");
    EXPECT_EQ(read_file(dir / "a"), "old");
    EXPECT_EQ(files_in(dir.path()), 1u);
}

TEST(WriteFileAtomic, target_that_is_a_directory_is_an_error) {
    TempDirectory dir;
    std::filesystem::create_directory(dir / "a");
    EXPECT_NE(error_of([&] { write_file_atomic(dir / "a", "x"); }).find("is not a regular file"), std::string::npos);
    EXPECT_EQ(files_in(dir.path()), 1u);
}

TEST(WriteFileAtomic, a_target_that_is_no_regular_file_stays) {
    TempDirectory dir;
    ASSERT_EQ(::mkfifo((dir / "pipe").c_str(), 0600), 0);
    std::filesystem::create_symlink("pipe", dir / "link");
    for (const char* name : {"pipe", "link"}) {
        const std::string error = error_of([&] { write_file_atomic(dir / name, "x"); });
        EXPECT_NE(error.find(": is not a regular file, so nothing is written there"), std::string::npos) << error;
    }
    EXPECT_TRUE(std::filesystem::is_fifo(dir / "pipe"));
    EXPECT_EQ(files_in(dir.path()), 2u);
}

TEST(WriteFileAtomic, a_link_stays_and_the_file_that_it_names_is_replaced) {
    TempDirectory dir;
    dir.write("file", "old");
    std::filesystem::create_symlink("file", dir / "link");
    write_file_atomic(dir / "link", "new");
    EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
    EXPECT_EQ(read_file(dir / "file"), "new");
}

TEST(StatusOf, what_the_system_cannot_tell_is_an_error_naming_the_path) {
    TempDirectory dir;
    std::filesystem::create_symlink("loop", dir / "loop");
    EXPECT_EQ(status_of(dir / "none").type(), std::filesystem::file_type::not_found);
    EXPECT_EQ(status_of(dir.write("file", "") / "none").type(), std::filesystem::file_type::not_found);
    EXPECT_EQ(status_of(dir.path()).type(), std::filesystem::file_type::directory);
    EXPECT_EQ(error_of([&] { status_of(dir / "loop"); }),
              (dir / "loop").string() + ": cannot be examined: Too many levels of symbolic links");
    EXPECT_NE(error_of([&] { make_directories(dir / "loop"); }).find("cannot be examined"), std::string::npos);
}

TEST(Xxh3, agrees_with_the_published_test_vector) {
    EXPECT_EQ(xxh3_64("", 0), 0x2D06800538D394C2ull);  // XXH3_64bits of nothing, seed 0: xxHash's sanity check
}

TEST(Xxh3, parts_give_the_hash_of_the_whole) {
    std::string data(10'000, '\0');
    for (size_t i = 0; i < data.size(); i++) data[i] = char(i * i);
    for (const size_t part : {1u, 7u, 240u, 1024u, 9999u}) {
        Xxh3 hash;
        for (size_t i = 0; i < data.size(); i += part) hash.update(&data[i], std::min(part, data.size() - i));
        EXPECT_EQ(hash.digest(), xxh3_64(data.data(), data.size())) << part;
    }
}

TEST(AtomicFile, without_commit_leaves_nothing) {
    TempDirectory dir;
    {
        AtomicFile file(dir / "a");
        file.file().write("x");
        EXPECT_EQ(files_in(dir.path()), 1u);
    }
    EXPECT_EQ(files_in(dir.path()), 0u);
}

TEST(InputFile, reads_in_parts_to_the_end) {
    TempDirectory dir;
    InputFile file(dir.write("a", "12345"));
    EXPECT_EQ(file.size(), 5u);
    char buffer[3];
    EXPECT_EQ(file.read(buffer, 3), 3u);
    EXPECT_EQ(file.read(buffer, 3), 2u);
    EXPECT_EQ(file.read(buffer, 3), 0u);
    EXPECT_EQ(buffer[0], '4');
}

}  // namespace
}  // namespace kiln
