#pragma once
// The text that a tokenizer is trained on, from all that `kiln prepare` reads.
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/prepare/documents.h"

namespace kiln {

struct TrainingText {
    // Gets a file whose bytes are its text, which may be larger than memory.
    std::function<void(const std::filesystem::path& file)> on_file;
    // Gets a document, or a part of a long one, of any other file; `name` is the file.
    std::function<void(std::string_view text, const std::string& name)> on_text;
    std::function<void(const std::string&)> report = [](const std::string&) {};  // gets the first bad records
};

// Passes on the text of all files in order, without those for validation and test. Bad records are left out. Throws
// Error if a file is not text, or if more than half of the records are bad.
void read_training_text(const std::vector<InputFileInfo>& files, const DocumentOptions& options,
                        const TrainingText& text);

}  // namespace kiln
