// divide DIR NEW_DIR BYTES: splits the weights of a model directory into files of at most BYTES bytes. The limit of
// `kiln export` is 5 GB.
#include <cstdlib>

#include "cpu_reference/interface/error.h"
#include "tools/cli/run_program.h"
#include "tools/formats/huggingface_model.h"

int main(int argc, char** argv) {
    using namespace kiln;
    return run_program(argc, argv, "divide", "", [](const std::string&, const std::vector<std::string>& args) {
        if (args.size() != 3) throw UsageError("usage: divide DIR NEW_DIR BYTES");
        write_hf_divided(args[1], open_hf(args[0]), "", nullptr, std::strtoull(args[2].c_str(), nullptr, 10));
        return 0;
    });
}
