#include "cpu_reference/error.h"
#include "tools/commands.h"

namespace kiln {

int command_prepare(const std::vector<std::string>&) {
    throw Error("kiln prepare: not here yet");
}

}  // namespace kiln
