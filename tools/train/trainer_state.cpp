#include "tools/train/trainer_state.h"

#include <algorithm>
#include <cmath>

#include "cpu_reference/interface/error.h"
#include "tokenizer/io/file.h"
#include "tokenizer/io/json_reader.h"
#include "tools/formats/json_file.h"

namespace kiln {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;
// Every program that reads JSON has these numbers exactly, and no sum of a few of them overflows.
constexpr int64_t kMaxCount = int64_t(1) << 53;

// The fields of the file, once for writing and reading, with the least and the largest value of integers. Reading goes
// from top to bottom, so a limit may be a field above it.
template <class State, class Visit>
void for_each_field(State& s, Visit visit) {
    auto& p = s.progress;
    visit("step", p.step, 0, kMaxCount);
    visit("updates", p.updates, 0, p.step);
    visit("position", p.position, p.step > 0 ? 1 : 0, kMaxCount);
    visit("validated_at", p.validated_at, -1, p.step);
    visit("sampled_at", p.sampled_at, -1, p.step);
    visit("loss_window", p.loss_window, 0, p.step);
    visit("norm_window", p.norm_window, 0, p.step);
    visit("main_log_bytes", p.log.main_bytes, 0, kMaxCount);
    visit("metrics_bytes", p.log.metrics_bytes, 0, kMaxCount);
    visit("model", s.model);
    visit("T", s.T, 1, INT32_MAX);
    visit("seed", s.seed);
    visit("loss_scale", s.loss_scale);
    visit("train_tokens", s.train_tokens);
    visit("train_data", s.train_data);
    visit("options", s.options);
}

struct Writer {
    json& out;

    template <class T>
    void operator()(const char* key, const T& value, int64_t = 0, int64_t = 0) const {
        out[key] = value;
    }
    template <class T>
    void operator()(const char* key, const std::optional<T>& value) const {
        if (value) (*this)(key, *value);
    }
    void operator()(const char* key, const LossScale& value) const { out[key] = {value.scale, value.good_steps}; }
    void operator()(const char* key, const OutlierWindow& value, int64_t, int64_t) const { out[key] = value.values(); }
};

struct Reader {
    const JsonReader& in;

    template <class T>
    void operator()(const char* key, T& value, int64_t min, int64_t max) const {
        value = T(in.integer(key, min, max));
    }
    void operator()(const char* key, uint64_t& value) const { value = in.uint64(key); }
    void operator()(const char* key, std::string& value) const { value = in.string(key); }
    template <class T>
    void operator()(const char* key, std::optional<T>& value) const {
        if (!in.member(key).is_null()) (*this)(key, value.emplace());
    }
    void operator()(const char* key, LossScale& value) const {
        const json& pair = in.array(key);
        const bool valid = pair.size() == 2 && pair[0].is_number() && pair[1].is_number_unsigned() &&
                           std::isfinite(pair[0].get<float>()) && pair[0].get<float>() > 0 &&
                           pair[1].get<uint64_t>() <= INT32_MAX;
        KILN_CHECK(valid, in.where(), ": \"", key, "\" must be a number above 0 and a count of steps");
        value = {pair[0].get<float>(), pair[1].get<int>()};
    }
    void operator()(const char* key, OutlierWindow& window, int64_t, int64_t steps) const {
        const json& values = in.array(key);
        const auto most = std::min(uint64_t(steps), uint64_t(OutlierWindow::kSize));
        KILN_CHECK(values.size() <= most, in.where(), ": \"", key, "\" must hold at most ", most, " numbers, holds ",
                   values.size());
        for (const json& value : values) {
            KILN_CHECK(value.is_number() && std::isfinite(value.get<double>()), in.where(), ": \"", key,
                       "\" must hold numbers, holds ", describe(value));
        }
        window = OutlierWindow(values.get<std::vector<double>>());
    }
    void operator()(const char* key, std::map<std::string, std::string>& options) const {
        if (in.member(key).is_null()) return;  // of the first versions
        const JsonReader object = in.object(key);
        for (const auto& [name, value] : in.member(key).items()) options[name] = object.string(name.c_str());
    }
};

}  // namespace

json TrainerState::to_json() const {
    json out = {{"format", kFormat}};
    for_each_field(*this, Writer{out});
    return out;
}

TrainerState parse_trainer_state(std::string_view text, const std::string& where) {
    const json parsed = parse_json(text, where);
    const JsonReader in(parsed, where);
    const int64_t format = in.integer("format", 0, INT32_MAX);
    KILN_CHECK(format == kFormat, where, ": has format ", format, ", but this program reads format ", kFormat,
               "; resume the run with the version of Kiln that wrote it");
    TrainerState state;
    for_each_field(state, Reader{in});
    try {
        const ModelConfig config = parse_model(state.model);
        KILN_CHECK(state.T <= config.max_T, "\"T\" is ", state.T, ", more than the model's context of ", config.max_T);
    } catch (const Error& error) {
        throw Error(concat(where, ": ", excerpt(error.what(), 200)));
    }
    return state;
}

TrainerState read_trainer_state(const CheckpointRef& checkpoint) {
    const std::string path = checkpoint.directory / "trainer_state.json";
    const TrainerState state = parse_trainer_state(read_file(path), path);
    KILN_CHECK(state.progress.step == checkpoint.step, path, ": \"step\" is ", state.progress.step,
               ", but the checkpoint is of step ", checkpoint.step);
    check_model(checkpoint.directory, parse_model(state.model));
    return state;
}

TrainerState load_trainer_state(const CheckpointRef& checkpoint, Engine& engine) {
    const TrainerState state = read_trainer_state(checkpoint);
    load_training_state(checkpoint.directory, engine);
    if (state.loss_scale) engine.set_loss_scale(*state.loss_scale);
    return state;
}

}  // namespace kiln
