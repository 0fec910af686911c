#include "cpu_reference/interface/engine.h"

#include "cpu_reference/interface/error.h"

namespace kiln {

void Engine::queue_update(const OptimizerStep&, float) {
    throw Error("engine: this one cannot queue updates");
}
StepResult Engine::take_update() {
    throw Error("engine: no update was queued");
}

}  // namespace kiln
