// Writes the logits of a model, in float32 as (tokens, V), to standard output: logits DIR ID...
#include <cstdlib>
#include <iostream>

#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/checkpoint.h"
#include "tools/cli/run_program.h"

int main(int argc, char** argv) {
    using namespace kiln;
    return run_program(argc, argv, "logits", "", [](const std::string&, const std::vector<std::string>& args) {
        if (args.size() < 2) throw UsageError("usage: logits DIR ID...");
        std::vector<int> tokens;
        for (size_t i = 1; i < args.size(); i++) tokens.push_back(std::atoi(args[i].c_str()));
        const auto engine = make_engine(read_model_config(args[0]), {.B = 1, .T = 1, .training = false});
        load_weights(args[0], *engine);
        engine->open_cache(1, int(tokens.size()));
        std::vector<float> logits(size_t(engine->config().V));
        for (const int token : tokens) {
            engine->prefill(0, {&token, 1}, logits.data());
            std::cout.write(reinterpret_cast<const char*>(logits.data()),
                            std::streamsize(logits.size() * sizeof(float)));
        }
        return 0;
    });
}
