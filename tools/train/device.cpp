#include "tools/train/device.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string_view>
#include <utility>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/text.h"

namespace kiln {

namespace {

// Options that need less memory.
struct Saving {
    std::string options;
    EngineOptions with;
};

std::vector<Saving> savings(const ModelConfig& config, const TrainOptions& o, const Device& device) {
    const EngineOptions now = engine_options(o);
    std::vector<Saving> all;
    const auto add = [&](const std::string& options, const auto& change) {
        Saving saving{options, now};
        change(saving.with);
        all.push_back(saving);
    };
    const int B = largest_batch(config, now, o.total_batch_tokens / o.T, device.free_bytes);
    const std::string same_batch = o.eval_only ? "" : concat(" -d ", o.total_batch_tokens);
    if (B < o.B) add(concat("-b ", B, same_batch), [&](EngineOptions& e) { e.B = B; });
    if (!backend_is_gpu()) return all;
    for (int r = now.recompute + 1; r <= 3 && now.training; r++) {
        add(concat("-r ", r), [&](EngineOptions& e) { e.recompute = r; });
    }
    for (int stage = now.zero_stage + 1; stage <= 3 && now.training && now.ranks > 1; stage++) {
        add(concat("-z ", stage), [&](EngineOptions& e) { e.zero_stage = stage; });
    }
    for (int chunks = 2; chunks <= 64 && chunks <= now.B * now.T; chunks *= 2) {
        if (chunks <= now.lm_head_chunks) continue;
        add(concat("--lm-head-chunks ", chunks), [&](EngineOptions& e) { e.lm_head_chunks = chunks; });
    }
    const bool narrow = now.precision != Precision::float32;
    if (now.training && narrow && !now.narrow_gradients) {
        add("--grad-dtype same", [](EngineOptions& e) { e.narrow_gradients = true; });
    }
    if (now.training && !now.narrow_moments) {
        add("--moment-dtype bfloat16", [](EngineOptions& e) { e.narrow_moments = true; });
    }
    if (now.training && narrow && now.master_weights) {
        add("-w 0", [](EngineOptions& e) { e.master_weights = false; });
    }
    if (now.training && narrow && now.attention != AttentionKind::plain) {
        add("--attention plain", [](EngineOptions& e) { e.attention = AttentionKind::plain; });
    }
    if (!narrow && device.bfloat16)
        add("--dtype bfloat16", [](EngineOptions& e) { e.precision = Precision::bfloat16; });
    return all;
}

// The smallest memory: all savings together.
EngineOptions least(EngineOptions e, const Device& device) {
    e.B = 1;
    if (!backend_is_gpu()) return e;
    e.recompute = 3;
    if (e.ranks > 1) e.zero_stage = 3;
    e.lm_head_chunks = std::max(e.lm_head_chunks, std::min(64, e.T));
    e.narrow_moments = true;
    e.master_weights = false;
    if (e.precision == Precision::float32 && device.bfloat16) e.precision = Precision::bfloat16;
    e.narrow_gradients = e.precision != Precision::float32;
    e.attention = AttentionKind::plain;
    return e;
}

// "16GiB", "16 GB", "24576MiB", "1.5G".
size_t parse_bytes(const std::string& text) {
    const struct {
        const char* unit;
        double bytes;
    } kUnits[] = {{"g", 0x1p30}, {"gib", 0x1p30}, {"gb", 1e9}, {"m", 0x1p20}, {"mib", 0x1p20}, {"mb", 1e6}};
    double number = 0;
    const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), number);
    std::string unit;
    for (const char c : std::string_view(end, text.data() + text.size())) {
        if (c != ' ') unit += char(std::tolower(static_cast<unsigned char>(c)));
    }
    for (const auto& known : kUnits) {
        const double bytes = number * known.bytes;
        if (status == std::errc() && unit == known.unit && bytes >= 1 && bytes < 0x1p62) return size_t(bytes);
    }
    throw UsageError(concat("--memory: \"", text, "\" is not a size; write it as in 16GiB or 24576MiB"));
}

}  // namespace

Device choose_device(TrainOptions& o, const std::string& program,
                     const std::function<void(const std::string&)>& report) {
    if (!o.dry_run && (!o.gpu.empty() || !o.memory.empty())) {
        throw UsageError("--gpu and --memory say what to plan for: add --dry-run, or leave them out");
    }
    if (!o.dry_run) return require_device(program);
    Device device;
    try {
        device = o.gpu.empty() ? require_device(program) : planned_device(o.gpu);
    } catch (const UsageError&) {
        throw;
    } catch (const Error& error) {
        device = planned_device("");
        if (o.memory.empty()) {
            report(concat(error.what(), ". --gpu \"RTX 4090\" or --memory 16GiB says whether this fits on another"));
        }
    }
    if (!o.memory.empty()) device.free_bytes = parse_bytes(o.memory);
    o.capability = device.capability;
    return device;
}

Precision parse_precision(const std::string& dtype) {
    return dtype == "bfloat16" ? Precision::bfloat16 : dtype == "float16" ? Precision::float16 : Precision::float32;
}

std::string default_dtype(const Device& device) {
    return backend_is_gpu() && device.bfloat16 ? "bfloat16" : "float32";
}

EngineOptions engine_options(const TrainOptions& o) {
    const EngineOptions defaults;
    return {.B = o.B,
            .T = o.T,
            .training = !o.eval_only,
            .precision = parse_precision(o.dtype),
            .tf32 = o.tf32,
            .master_weights = o.master_weights,
            .narrow_gradients = o.grad_dtype == "same" && parse_precision(o.dtype) != Precision::float32,
            .narrow_moments = o.moment_dtype == "bfloat16",
            .recompute = o.recompute,
            .fused_gelu = o.gelu_fusion,
            .attention = o.attention == "flash"   ? AttentionKind::flash
                         : o.attention == "plain" ? AttentionKind::plain
                                                  : AttentionKind::automatic,
            .capability = o.capability,
            .lm_head_chunks = o.lm_head_chunks,
            .fixed_lm_head_chunks = o.deterministic_matmuls,
            .ranks = o.ranks,
            .zero_stage = o.zero_stage,
            .narrow_reduce = o.reduce_dtype == "same",
            .matmul_candidates = o.deterministic_matmuls ? 1 : defaults.matmul_candidates,
            .graphs = o.cuda_graphs,
            .seed = o.seed};
}

void fit_to_device(TrainOptions& o, const Device& device, const std::string& program,
                   const std::function<bool(const std::string&)>& inherited,
                   const std::function<void(const std::string&)>& report) {
    const bool gpu = backend_is_gpu();
    const auto require = [&]<class T>(bool can, const char* name, const char* letter, T& value, const T& instead) {
        if (can || value == instead) return;
        const std::string what = concat("--", name, letter, " ", value);
        const std::string why = gpu ? concat(device.name, " does not support it")
                                    : concat("is not available in ", program, ", which computes on the CPU");
        if (!inherited || !inherited(name)) {
            throw UsageError(concat(what, ": ", why, "; leave the option out, or set it to ", instead));
        }
        if (report) report(concat("the run's ", what, ": ", why, "; it continues with ", instead));
        value = instead;
    };
    if (o.dtype == "auto") o.dtype = default_dtype(device);
    const std::string float32 = "float32", float16 = "float16";
    if (!gpu) require(false, "dtype", "", o.dtype, float32);
    if (o.dtype == "bfloat16") require(device.bfloat16, "dtype", "", o.dtype, float16);
    require(device.tf32, "tf32", " (-f)", o.tf32, false);
    require(gpu, "moment-dtype", "", o.moment_dtype, float32);
    if (o.attention == "flash") require(gpu, "attention", "", o.attention, std::string("auto"));
    require(gpu, "recompute", " (-r)", o.recompute, 0);
    require(gpu, "gelu-fusion", " (-ge)", o.gelu_fusion, 0);
    if (report && o.gelu_fusion > 0 && !device.fuses_gelu) {
        report(concat("--gelu-fusion (-ge) ", o.gelu_fusion, ": on ", device.name,
                      " cuBLASLt may still launch GELU as another kernel; compare the speed with -ge 0"));
    }
    require(gpu, "lm-head-chunks", "", o.lm_head_chunks, 0);
    require(gpu, "zero-stage", " (-z)", o.zero_stage, 0);
    require(gpu, "reduce-dtype", "", o.reduce_dtype, float32);
    if (o.gpu_log_every > 0) require(gpu, "log-gpu-every", " (-lg)", o.gpu_log_every, int64_t(0));
}

size_t planned_bytes(const ModelConfig& config, const EngineOptions& options) {
    size_t sum = 0;
    for (const MemoryItem& item : plan_memory(config, options)) sum += item.bytes;
    return sum;
}

int largest_batch(const ModelConfig& config, const EngineOptions& options, int64_t sequences, size_t bytes,
                  int64_t most) {
    const auto fits = [&](int B) {
        EngineOptions with = options;
        with.B = B;
        return planned_bytes(config, with) <= bytes;
    };
    int64_t low = 1, high = std::min<int64_t>({kMaxBatch, (1 << 28) / options.T, most});
    if (sequences > 0) high = std::min(high, sequences);
    while (low < high) {
        const int64_t middle = (low + high + 1) / 2;
        if (fits(int(middle))) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    while (sequences > 0 && sequences % low != 0) low--;
    return int(low);
}

void check_memory(const ModelConfig& config, const TrainOptions& o, const Device& device) {
    const EngineOptions now = engine_options(o);
    const size_t needed = planned_bytes(config, now), free = device.free_bytes;
    if (free == 0 || needed <= free) return;
    const auto text = [](size_t bytes) { return bytes_text(double(bytes)); };
    std::string message = concat("this run needs ", text(needed), " of memory, but only ", text(free), " of ",
                                 device.name, " are free: ", text(needed - free), " too little");
    std::string fitting;
    bool chunks_named = false;
    for (const Saving& saving : savings(config, o, device)) {
        const size_t bytes = planned_bytes(config, saving.with);
        const bool chunks = saving.with.lm_head_chunks != now.lm_head_chunks;
        if (bytes > free || (chunks && std::exchange(chunks_named, true)))
            continue;  // only the smallest number is shown
        fitting += concat("\n  ", padded(saving.options, 28), text(bytes), ", ", text(needed - bytes), " less");
    }
    if (!fitting.empty()) throw Error(concat(message, ". Each of these alone makes it fit:", fitting));
    const EngineOptions with = least(now, device);
    const size_t least_bytes = planned_bytes(config, with);
    std::string all = "-b 1";
    if (backend_is_gpu()) {
        const bool narrow = with.precision != Precision::float32;
        all += concat(with.zero_stage > now.zero_stage ? " -z 3" : "",
                      with.precision != now.precision ? " --dtype bfloat16" : "", " -r 3 --lm-head-chunks ",
                      with.lm_head_chunks, " --moment-dtype bfloat16",
                      narrow ? " --grad-dtype same -w 0 --attention plain" : "");
    }
    throw Error(concat(message, ". No option alone makes it fit; ", all, " takes ", text(least_bytes),
                       least_bytes <= free ? "" : ", so use a smaller model or a shorter -t"));
}

}  // namespace kiln
