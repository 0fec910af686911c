#pragma once
// What a disk may hold after a power cut, by a weak model of a file system. Of the data that was written to a file
// after its last fsync, a part may be on the disk; the rest is missing or zero. Of the names that were created, removed
// or renamed in a directory after its last fsync, any subset may be on the disk, but each change is atomic.
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "tests/reliability/faults.h"

namespace kiln {

class PowerCut {
public:
    struct Entry {
        enum Kind : uint8_t { directory, file, link } kind = directory;
        std::shared_ptr<const std::string> content = {};  // of a file; what a link holds
    };
    using Tree = std::map<std::string, Entry>;  // by path below the root; a directory stands before what it holds

    // Assumes that the present content of `root` is completely on the disk.
    explicit PowerCut(const std::filesystem::path& root);

    // Applies the next operation, which the disk need not have done yet.
    void apply(const faults::Operation& operation);

    // Calls visit(tree) for each combination of lost names and of five contents of each file that was not fsynced; for
    // `limit` random ones if there are more. The same tree may come more than once.
    void for_each_tree(size_t limit, std::mt19937& random, const std::function<void(const Tree&)>& visit) const;

private:
    struct Node {
        Entry::Kind kind = Entry::directory;
        std::string content;                 // on the disk
        std::map<std::string, int> names;    // as processes see them
        std::map<std::string, int> durable;  // on the disk
    };
    struct NameChange {
        int directory;
        std::string name;
        int node;  // -1: the name is removed
    };
    using Change = std::vector<NameChange>;
    struct Write {
        bool truncates;
        uint64_t offset;  // the new size of one that truncates
        std::string data;
    };
    using Names = std::vector<std::map<std::string, int>>;  // by directory

    int add(const std::filesystem::path& path);
    int make(Entry::Kind kind, std::string content = {});
    int node_at(const std::string& path) const;
    std::pair<int, std::string> place(const std::string& path) const;
    void change(Change change);
    void sync(int node);
    std::vector<std::string> contents(int node, std::mt19937& random) const;
    static void write(std::string& content, const Write& write, size_t bytes);
    void walk(Tree& tree, const Names& names, const std::vector<std::shared_ptr<const std::string>>& contents,
              int directory, const std::string& path) const;

    std::string root_;
    std::vector<Node> nodes_;
    std::map<int, int> open_;                      // node of an open file's number
    std::vector<Change> pending_;                  // in order
    std::map<int, std::vector<Write>> unwritten_;  // by node
};

// Makes `root` hold exactly the tree.
void write_tree(const PowerCut::Tree& tree, const std::filesystem::path& root);

// Equal for equal trees.
std::string key_of(const PowerCut::Tree& tree);

}  // namespace kiln
