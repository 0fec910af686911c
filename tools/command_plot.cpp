#include "cpu_reference/error.h"
#include "tools/commands.h"

namespace kiln {

int command_plot(const std::vector<std::string>&) {
    throw Error("kiln plot: not here yet");
}

}  // namespace kiln
