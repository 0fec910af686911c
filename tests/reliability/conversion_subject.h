#pragma once
// A model directory that is replaced by another one, as `kiln export --overwrite` does it.
#include "tests/reliability/faults.h"
#include "tests/reliability/subject.h"
#include "tokenizer/io/file.h"
#include "tools/formats/huggingface_model.h"

namespace kiln {

class ConversionSubject : public Subject {
public:
    ConversionSubject() {
        write_hf(directory_ / "old", model(kOld), "", nullptr);
        write_hf(directory_ / "new", model(kNew), "", nullptr);
        reset();
    }

    std::string act() const override {
        write_hf(root() / "model", open_hf(directory_ / "new"), "", nullptr);
        faults::set_durable(kNew);
        return "";
    }

    std::string check(int64_t durable) const override {
        const bool is_old = files_of(root() / "model") == files_of(directory_ / "old");
        if (is_old && durable == kNew) return "the one that was written is lost";
        if (!is_old && files_of(root() / "model") != files_of(directory_ / "new")) return "it is neither of the two";
        act();
        return difference();
    }

    std::string difference() const override {
        if (names_in(root()) != "model ") return "it holds " + names_in(root());
        return files_of(root() / "model") == files_of(directory_ / "new") ? "" : "it is not the new one";
    }

private:
    static constexpr int kOld = 1, kNew = 2;  // the weights

    static StoredModel model(int version) {
        const auto read = [version](const TensorSpec&, std::span<float> out) {
            std::ranges::fill(out, float(version));
        };
        return {parse_model("llama:layers=1,dim=8,heads=2,vocab=11,ctx=16"), {}, "F32", read};
    }
    void prepare() const override { std::filesystem::copy(directory_ / "old", root() / "model"); }

    static std::string files_of(const std::filesystem::path& directory) {
        std::string all = names_in(directory);
        for (const char* name : {"config.json", "generation_config.json", "model.safetensors"}) {
            if (std::filesystem::exists(directory / name)) all += read_file(directory / name);
        }
        return all;
    }
};

}  // namespace kiln
