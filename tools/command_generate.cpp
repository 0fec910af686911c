#include "cpu_reference/error.h"
#include "tools/commands.h"

namespace kiln {

int command_generate(const std::vector<std::string>&) {
    throw Error("kiln generate: not here yet");
}

}  // namespace kiln
