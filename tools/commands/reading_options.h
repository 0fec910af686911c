#pragma once
// The options of commands that read text: `kiln prepare` and `kiln tokenizer train`.
#include <string>

#include "tokenizer/prepare/documents.h"
#include "tools/cli/options.h"

namespace kiln {

struct ReadingOptions {
    std::string text_key = "text", format = "auto", encoding = "utf-8";

    DocumentOptions options() const;  // throws UsageError
};

void add_reading_options(OptionSet& set, ReadingOptions& reading);

}  // namespace kiln
