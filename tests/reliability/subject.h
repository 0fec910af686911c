#pragma once
// An operation that writes files, and that the tests interrupt or let fail, and then repeat.
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
    // Performs the operation, calls faults::set_durable() as soon as something is finished that must not be lost, and
    // returns the messages to the user.
    virtual std::string act() const = 0;
    // Called after act() was interrupted. Repeats act(), and returns what is wrong with what was left, or with the
    // result; "" if nothing is.
    virtual std::string check(int64_t durable) const = 0;
    // How the result of act() differs from that of an uninterrupted act(); "" if it does not.
    virtual std::string difference() const = 0;
    // If true, difference() accepts logs that lack lines, since training continues if a log line cannot be written.
    void let_lines_be_missing(bool may) const { lines_may_be_missing_ = may; }

protected:
    virtual void prepare() const = 0;
    TempDirectory directory_;
    mutable bool lines_may_be_missing_ = false;
};

// The names in a directory, sorted and separated by spaces.
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
