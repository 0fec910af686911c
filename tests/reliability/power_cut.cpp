#include "tests/reliability/power_cut.h"

#include <algorithm>
#include <fstream>
#include <stdexcept>

#include "tokenizer/io/file.h"

namespace kiln {

namespace fs = std::filesystem;
using faults::Operation;

PowerCut::PowerCut(const fs::path& root) : root_(root.string()) {
    add(root);
}

int PowerCut::make(Entry::Kind kind, std::string content) {
    nodes_.push_back({kind, std::move(content), {}, {}});
    return int(nodes_.size()) - 1;
}

int PowerCut::add(const fs::path& path) {
    if (fs::is_symlink(path)) return make(Entry::link, fs::read_symlink(path).string());
    if (!fs::is_directory(path)) return make(Entry::file, read_file(path));
    const int node = make(Entry::directory);
    for (const auto& entry : fs::directory_iterator(path)) {
        const int inside = add(entry.path());
        nodes_[node].durable[entry.path().filename().string()] = inside;
    }
    nodes_[node].names = nodes_[node].durable;
    return node;
}

// The node of a path; -1: there is none.
int PowerCut::node_at(const std::string& path) const {
    int node = 0;
    for (const fs::path& name : fs::path(path).lexically_relative(root_)) {
        if (name == ".") continue;
        const auto found = nodes_[node].names.find(name.string());
        if (found == nodes_[node].names.end()) return -1;
        node = found->second;
    }
    return node;
}

std::pair<int, std::string> PowerCut::place(const std::string& path) const {
    const fs::path whole(path);
    const int directory = node_at(whole.parent_path());
    if (directory < 0) throw std::logic_error("no directory for " + path);
    return {directory, whole.filename().string()};
}

void PowerCut::change(Change change) {
    for (const NameChange& c : change) {
        if (c.node < 0) {
            nodes_[c.directory].names.erase(c.name);
        } else {
            nodes_[c.directory].names[c.name] = c.node;
        }
    }
    pending_.push_back(std::move(change));
}

void PowerCut::write(std::string& content, const Write& write, size_t bytes) {
    if (write.truncates) {
        content.resize(write.offset);
    } else if (bytes > 0) {
        content.resize(std::max(content.size(), size_t(write.offset) + bytes));
        content.replace(write.offset, bytes, write.data, 0, bytes);
    }
}

void PowerCut::sync(int node) {
    for (const Write& w : unwritten_[node]) write(nodes_[node].content, w, w.data.size());
    unwritten_.erase(node);
    // Changes in this directory are on the disk; each change is atomic, also in another directory.
    std::erase_if(pending_, [&](const Change& change) {
        if (std::ranges::none_of(change, [&](const NameChange& c) { return c.directory == node; })) return false;
        for (const NameChange& c : change) {
            if (c.node < 0) {
                nodes_[c.directory].durable.erase(c.name);
            } else {
                nodes_[c.directory].durable[c.name] = c.node;
            }
        }
        return true;
    });
}

void PowerCut::apply(const Operation& operation) {
    switch (operation.kind) {
        case Operation::open: {
            int node = node_at(operation.path);
            if (node < 0) {
                node = make(Entry::file);
                const auto [directory, name] = place(operation.path);
                change({{directory, name, node}});
            }
            open_[operation.file] = node;
            break;
        }
        case Operation::write:
            unwritten_[open_.at(operation.file)].push_back({false, operation.offset, operation.data});
            break;
        case Operation::truncate: unwritten_[open_.at(operation.file)].push_back({true, operation.offset, {}}); break;
        case Operation::sync: sync(open_.at(operation.file)); break;
        case Operation::rename: {
            const auto [from, old_name] = place(operation.path);
            const auto [to, new_name] = place(operation.to);
            change({{from, old_name, -1}, {to, new_name, node_at(operation.path)}});
            break;
        }
        case Operation::exchange: {
            const auto [a, a_name] = place(operation.path);
            const auto [b, b_name] = place(operation.to);
            change({{a, a_name, node_at(operation.to)}, {b, b_name, node_at(operation.path)}});
            break;
        }
        case Operation::remove: {
            const auto [directory, name] = place(operation.path);
            change({{directory, name, -1}});
            break;
        }
        case Operation::make_directory: {
            const auto [directory, name] = place(operation.path);
            change({{directory, name, make(Entry::directory)}});
            break;
        }
        case Operation::make_link: {
            const auto [directory, name] = place(operation.path);
            change({{directory, name, make(Entry::link, operation.to)}});
            break;
        }
        case Operation::durable: break;
    }
}

// What the disk may hold of a file.
std::vector<std::string> PowerCut::contents(int node, std::mt19937& random) const {
    const std::vector<Write>& writes = unwritten_.at(node);
    const std::string& kept = nodes_[node].content;
    std::string all = kept, zeros = kept, half = kept, some = kept;
    for (size_t i = 0; i < writes.size(); i++) {
        const size_t bytes = writes[i].data.size();
        const Write zero{writes[i].truncates, writes[i].offset, std::string(bytes, '\0')};
        write(all, writes[i], bytes);
        write(zeros, zero, bytes);
        if (i <= writes.size() / 2) write(half, writes[i], i < writes.size() / 2 ? bytes : bytes / 2);
        const unsigned choice = random() % 4;
        if (choice != 0) write(some, choice == 1 ? zero : writes[i], choice == 2 ? bytes / 2 : bytes);
    }
    return {all, kept, zeros, half, some};
}

void PowerCut::for_each_tree(size_t limit, std::mt19937& random, const std::function<void(const Tree&)>& visit) const {
    std::vector<std::shared_ptr<const std::string>> contents;
    for (const Node& node : nodes_) contents.push_back(std::make_shared<const std::string>(node.content));
    Names durable;
    for (const Node& node : nodes_) durable.push_back(node.durable);
    std::vector<std::pair<int, std::vector<std::shared_ptr<const std::string>>>> files;
    for (const auto& [node, writes] : unwritten_) {
        files.push_back({node, {}});
        for (std::string& content : this->contents(node, random)) {
            files.back().second.push_back(std::make_shared<const std::string>(std::move(content)));
        }
    }
    // A choice is a number: a bit for each pending change, then a digit for each file.
    double all = 1;
    for (size_t i = 0; i < pending_.size(); i++) all *= 2;
    for (const auto& file : files) all *= double(file.second.size());
    const bool each = all <= double(limit);
    for (size_t i = 0; i < (each ? size_t(all) : limit); i++) {
        size_t choice = i;
        const auto choose = [&](size_t n) {
            if (!each) return size_t(random() % n);
            const size_t chosen = choice % n;
            choice /= n;
            return chosen;
        };
        Names names = durable;
        for (const Change& change : pending_) {
            if (choose(2) == 0) continue;
            for (const NameChange& c : change) {
                if (c.node < 0) {
                    names[c.directory].erase(c.name);
                } else {
                    names[c.directory][c.name] = c.node;
                }
            }
        }
        for (const auto& [node, variants] : files) contents[node] = variants[choose(variants.size())];
        Tree tree;
        walk(tree, names, contents, 0, "");
        visit(tree);
    }
}

void PowerCut::walk(Tree& tree, const Names& names, const std::vector<std::shared_ptr<const std::string>>& contents,
                    int directory, const std::string& path) const {
    for (const auto& [name, node] : names[directory]) {
        const std::string inside = path + "/" + name;
        const Entry::Kind kind = nodes_[node].kind;
        tree[inside] = {kind, kind == Entry::directory ? nullptr : contents[node]};
        if (kind == Entry::directory) walk(tree, names, contents, node, inside);
    }
}

void write_tree(const PowerCut::Tree& tree, const fs::path& root) {
    fs::remove_all(root);
    fs::create_directories(root);
    for (const auto& [name, entry] : tree) {
        const fs::path path = root.string() + name;
        switch (entry.kind) {
            case PowerCut::Entry::directory: fs::create_directory(path); break;
            case PowerCut::Entry::link: fs::create_symlink(*entry.content, path); break;
            case PowerCut::Entry::file: std::ofstream(path, std::ios::binary) << *entry.content; break;
        }
    }
}

std::string key_of(const PowerCut::Tree& tree) {
    Xxh3 hash;
    for (const auto& [name, entry] : tree) {
        hash.update(name.data(), name.size() + 1);
        const uint64_t bytes = entry.content ? entry.content->size() : 0;
        hash.update(&bytes, sizeof bytes);
        if (entry.content) hash.update(entry.content->data(), entry.content->size());
    }
    return std::to_string(hash.digest());
}

}  // namespace kiln
