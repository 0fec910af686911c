#include "tools/train/progress.h"

#include "cpu_reference/interface/error.h"
#include "tools/checkpoint/checkpoint.h"

namespace kiln {

nlohmann::json TrainProgress::to_json() const {
    return {{"format", 1},
            {"step", step},
            {"updates", updates},
            {"position", position},
            {"validated_at", validated_at},
            {"sampled_at", sampled_at},
            {"loss_window", loss_window.values()},
            {"norm_window", norm_window.values()},
            {"main_log_bytes", log.main_bytes},
            {"metrics_bytes", log.metrics_bytes}};
}

TrainProgress TrainProgress::from_json(const nlohmann::json& state) {
    try {
        TrainProgress p;
        state.at("step").get_to(p.step);
        state.at("updates").get_to(p.updates);
        state.at("position").get_to(p.position);
        state.at("validated_at").get_to(p.validated_at);
        state.at("sampled_at").get_to(p.sampled_at);
        p.loss_window = OutlierWindow(state.at("loss_window").get<std::vector<double>>());
        p.norm_window = OutlierWindow(state.at("norm_window").get<std::vector<double>>());
        state.at("main_log_bytes").get_to(p.log.main_bytes);
        state.at("metrics_bytes").get_to(p.log.metrics_bytes);
        return p;
    } catch (const nlohmann::json::exception& error) {
        throw Error(concat("trainer_state.json: ", error.what(), "; resume from an older checkpoint"));
    }
}

TrainProgress load_progress(const std::filesystem::path& checkpoint, Engine& engine) {
    const nlohmann::json state = load_training_state(checkpoint, engine);
    if (const auto scale = state.find("loss_scale"); scale != state.end()) {
        KILN_CHECK(
            scale->is_array() && scale->size() == 2 && (*scale)[0].is_number() && (*scale)[1].is_number_integer(),
            checkpoint.string(), ": trainer_state.json: \"loss_scale\" is not a pair of numbers");
        engine.set_loss_scale({(*scale)[0].get<float>(), (*scale)[1].get<int>()});
    }
    return TrainProgress::from_json(state);
}

}  // namespace kiln
