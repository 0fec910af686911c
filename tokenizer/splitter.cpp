#include "tokenizer/splitter.h"

#include "cpu_reference/error.h"

namespace kiln {

SplitterKind parse_splitter(const std::string& name) {
    if (name == "gpt2") return SplitterKind::kGpt2;
    throw UsageError(concat("pre-tokenizer \"", name, "\" is not known; there is: ", kSplitterNames));
}

const char* splitter_name(SplitterKind kind) {
    switch (kind) {
        case SplitterKind::kGpt2:
            return "gpt2";
    }
    return "";
}

}  // namespace kiln
