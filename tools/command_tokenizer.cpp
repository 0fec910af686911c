#include "cpu_reference/error.h"
#include "tools/commands.h"

namespace kiln {

int command_tokenizer(const std::vector<std::string>&) {
    throw Error("kiln tokenizer: not here yet");
}

}  // namespace kiln
