#pragma once
// What the tests of this folder kill, and make fail: something that writes files, can be broken off, and is then done
// again.
#include <filesystem>
#include <set>
#include <string>

#include "tests/support/temp_directory.h"

namespace kiln {

class Subject {
public:
    virtual ~Subject() = default;

    // It changes nothing outside of this directory.
    std::filesystem::path root() const { return directory_ / "root"; }
    // Makes the directory as it is before act().
    void reset() const {
        std::filesystem::remove_all(root());
        std::filesystem::create_directories(root());
        prepare();
    }
    // Does it, calls faults::report() when something is done that must not be lost, and returns its notes to the user.
    virtual std::string act() const = 0;
    // After act() was broken off: what is wrong with what it left, or with what act() then does; "": nothing.
    virtual std::string check(int64_t reported) const = 0;
    // After act(): what differs from what an unbroken one leaves; "": nothing.
    virtual std::string difference() const = 0;
    // A line of a log that could not be written is no reason to stop: the logs may lack lines in what follows.
    void let_lines_be_missing(bool may) const { lines_may_be_missing_ = may; }

protected:
    virtual void prepare() const = 0;
    TempDirectory directory_;
    mutable bool lines_may_be_missing_ = false;
};

// The names in a directory.
inline std::string names_in(const std::filesystem::path& directory) {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        names.insert(entry.path().filename().string());
    }
    std::string text;
    for (const std::string& name : names) text += name + " ";
    return text;
}

}  // namespace kiln
