#include "cpu_reference/error.h"
#include "tools/commands.h"

namespace kiln {

int command_inspect(const std::vector<std::string>&) {
    throw Error("kiln inspect: not here yet");
}

}  // namespace kiln
