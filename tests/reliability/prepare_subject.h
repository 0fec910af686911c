#pragma once
// `kiln prepare` of a few documents to some shards.
#include <map>

#include "tests/reliability/subject.h"
#include "tests/support/tiny_run.h"
#include "tokenizer/io/file.h"
#include "tokenizer/prepare/prepare.h"

namespace kiln {

class PrepareSubject : public Subject {
public:
    PrepareSubject() {
        BpeTrainer trainer({.vocab_size = 280, .special_tokens = {"<|endoftext|>"}});
        trainer.add_text(kTinyText, "text");
        std::filesystem::create_directories(tokenizer());
        trainer.train().save(tokenizer());
        std::string text;
        for (int i = 0; i < 40; i++) text += std::to_string(i) + " " + kTinyText + "%\n";
        directory_.write("input.txt", text);
        reset();
        act();
        whole_ = files();
    }

    std::string act() const override {
        PrepareOptions options;
        options.inputs = {(directory_ / "input.txt").string()};
        options.tokenizer = tokenizer();
        options.output = output();
        options.documents.separator = "%";
        options.documents.block_bytes = 1000;
        options.val_fraction = 0.1;
        options.shard_tokens = 800;
        options.save_seconds = 0;
        options.threads = 1;
        kiln::prepare(options);
        return "";
    }

    // `kiln prepare` refuses to replace complete shards, so it is not repeated then.
    std::string check(int64_t) const override {
        if (!std::filesystem::exists(output()) || files() != whole_) act();
        return difference();
    }

    std::string difference() const override {
        const std::map<std::string, std::string> now = files();
        for (const auto& [name, content] : whole_) {
            if (!now.contains(name)) return name + " is missing";
            if (now.at(name) != content) return name + " differs";
        }
        return now.size() == whole_.size() ? "" : concat("it holds ", names_in(output()));
    }

private:
    std::filesystem::path tokenizer() const { return directory_ / "tokenizer"; }
    std::filesystem::path output() const { return root() / "shards"; }
    void prepare() const override {}

    std::map<std::string, std::string> files() const {
        std::map<std::string, std::string> found;
        for (const auto& entry : std::filesystem::directory_iterator(output())) {
            found[entry.path().filename().string()] = read_file(entry.path());
        }
        return found;
    }

    std::map<std::string, std::string> whole_;
};

}  // namespace kiln
