// `make bench-attention`: flash attention at the shapes of real models, interleaved with PyTorch's, and the rates of
// mma.sync, of a matmul and of a copy in the same run.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "cpu_reference/interface/rng.h"
#include "cuda/device/transfer.h"
#include "cuda/kernels/kernels.h"
#include "dev/bench/support/ceilings.h"
#include "dev/bench/support/mma_rate.h"
#include "dev/bench/support/peer.h"
#include "dev/bench/support/program.h"
#include "dev/bench/support/repeat.h"
#include "dev/bench/support/results.h"
#include "tools/cli/options.h"

namespace kiln::bench {
namespace {

using Elem = __nv_bfloat16;

struct Options {
    int rounds = 5, launches = 10, shapes = 100;
    std::string peer = "exec ${PYTHON:-python3} dev/bench/peers/torch_attention.py", output = "dev/bench/results";
    bool small = false;
};

struct Shape {
    int B, T, NH, NKV, HS;
    int goals[2] = {0, 0};  // TFLOP/s forward and backward; 0: no goal
};

std::vector<Shape> training_shapes(bool small) {
    if (small) return {{2, 40, 2, 1, 64, {290, 230}}, {1, 33, 1, 1, 128}};
    std::vector<Shape> shapes = {{64, 1024, 12, 12, 64, {290, 230}}};
    for (const int T : {2048, 4096, 8192}) shapes.push_back({65536 / T, T, 12, 12, 64});
    for (const int T : {1024, 2048, 4096, 8192, 16384}) {
        shapes.push_back({16384 / T, T, 16, 16, 128});
        if (T >= 2048 && T <= 8192) std::ranges::copy(std::vector{330, 300}, shapes.back().goals);
    }
    for (const int T : {2048, 4096, 8192, 16384}) shapes.push_back({16384 / T, T, 64, 8, 128});
    return shapes;
}

// Decoding: one token for each sequence, with T - 1 tokens in the cache.
std::vector<Shape> decoding_shapes(bool small) {
    if (small) return {{2, 70, 2, 1, 64}};
    return {{32, 8192, 12, 12, 64}, {1, 8192, 32, 8, 128}, {16, 8192, 32, 8, 128}, {16, 8192, 64, 8, 128}};
}

// Uniform random numbers of variance 1. The host makes a period of them, which is repeated on the device.
DeviceBuffer<Elem> random_tensor(size_t elems, uint32_t salt, const Stream& stream) {
    std::vector<float> values(std::min(elems, size_t(1) << 20));
    for (size_t i = 0; i < values.size(); ++i) {
        values[i] = 1.7320508f * (2 * uniform01(philox4x32(salt, uint32_t(i), 0, 0, 0).v[0]) - 1);
    }
    DeviceBuffer<Elem> tensor(elems);
    upload(tensor.get(), values.data(), values.size(), 1, stream);
    repeat(tensor.get(), values.size(), elems, stream);
    stream.synchronize();
    return tensor;
}

// The times of one operation, one for each round. The mark is a footnote of the peer.
struct Times {
    std::vector<double> ms;
    std::string mark;
    double median() const {
        std::vector<double> sorted = ms;
        std::ranges::sort(sorted);
        return sorted[sorted.size() / 2];
    }
    // The slowest minus the fastest, in per cent of the median.
    double spread() const {
        const auto [least, most] = std::ranges::minmax(ms);
        return 100 * (most - least) / median();
    }
};
struct Pass {
    Times kiln;
    std::map<std::string, Times> peers;  // by backend, if it supports the shape
};

template <class... A>
std::string format(const char* text, A... values) {
    std::string line(size_t(std::snprintf(nullptr, 0, text, values...)), 0);
    std::snprintf(line.data(), line.size() + 1, text, values...);
    return line;
}

// answer: the times of one round of PyTorch, as "BACKEND FORWARD BACKWARD" for each backend.
void add_answer(Pass (&passes)[2], const std::string& answer) {
    std::istringstream in(answer);
    std::string backend, text;
    while (in >> backend) {
        for (Pass& pass : passes) {
            KILN_CHECK(in >> text, "the program of --peer answered '", answer, "'");
            if (text == "-") continue;
            Times& times = pass.peers[backend];
            size_t digits = 0;
            times.ms.push_back(std::stod(text, &digits));
            times.mark = text.substr(digits);
        }
    }
}

class Bench {
public:
    explicit Bench(const Options& options) : options_(options), timer_(options.small ? 1 : options.launches) {
        if (options_.peer == "-") return;
        peer_.emplace(options_.peer);
        peer_name_ = peer_->read_line().value_or("n/a: '" + options_.peer + "' ended without a line");
        if (peer_name_.starts_with("n/a")) peer_.reset();
    }

    std::string run(const std::string& device) {
        ceilings_ = measure_ceilings(timer_, options_.small);
        mma_tflop_per_s_ = measure_mma_tflop_per_s(timer_, options_.small);
        say("# Attention on " + device + ", " + today() + "\n\n");
        say(
            format("Causal, bfloat16; medians of %d rounds of at most %d launches each, cold L2 cache; +-: the slowest "
                   "round minus the fastest. Ceilings of the same run: mma.sync %.0f TFLOP/s, a matmul by cuBLASLt "
                   "%.0f TFLOP/s, a copy %.0f GB/s (read and written). FLOPs: 4 B NH T^2 HS / 2 forward, 2.5 times "
                   "that backward.\n\n",
                   options_.rounds, options_.launches, mma_tflop_per_s_, ceilings_.tflop_per_s, ceilings_.gb_per_s));
        say("Compared with: " + peer_name_ + ". x: how many times as fast Kiln is.\n\n");
        say("| HS | T | B | heads | pass | Kiln ms | +- | TFLOP/s | of mma.sync | goal |");
        for (const char* backend : kBackends) say(std::string(" ") + backend + " |");
        say("\n|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        for (const Shape& shape : first(training_shapes(options_.small))) train(shape);
        say("\nDecoding: one token for each sequence with a full cache. GB/s counts the bytes of the keys and values. "
            "The "
            "goal is 80 % of the copy.\n\n| HS | cache | B | heads | us | +- | GB/s | of the copy |\n"
            "|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        for (const Shape& shape : first(decoding_shapes(options_.small))) decode(shape);
        return text_;
    }

private:
    std::vector<Shape> first(std::vector<Shape> shapes) const {
        shapes.resize(std::min(shapes.size(), size_t(options_.shapes)));
        return shapes;
    }

    static constexpr const char* kBackends[] = {"FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION"};

    void say(const std::string& text) {
        std::cout << text << std::flush;
        text_ += text;
    }

    void train(const Shape& s) {
        const size_t N = size_t(s.B) * size_t(s.T), sums = N * size_t(s.NH);
        const auto qkv = random_tensor(N * size_t((s.NH + 2 * s.NKV) * s.HS), 1, stream_);
        const auto dout = random_tensor(sums * size_t(s.HS), 2, stream_);
        const DeviceBuffer<Elem> out(dout.size()), dqkv(qkv.size());
        const DeviceBuffer<float> lse(sums),
            scratch(flash_attention_scratch_floats(s.B, s.T, s.NH, s.NKV, s.HS, false));
        Pass passes[2];
        for (int round = 0; round < options_.rounds; ++round) {
            passes[0].kiln.ms.push_back(timer_.median_ms([&](cudaStream_t on) {
                flash_attention_forward(out.get(), lse.get(), qkv.get(), {}, {}, s.B, s.T, s.NH, s.NKV, s.HS, on);
            }));
            passes[1].kiln.ms.push_back(timer_.median_ms([&](cudaStream_t on) {
                flash_attention_backward(dqkv.get(), BiasGradient<float>{}, scratch.get(), dout.get(), out.get(),
                                         qkv.get(), lse.get(), {}, {}, s.B, s.T, s.NH, s.NKV, s.HS, on);
            }));
            if (!peer_) continue;
            const auto answer = peer_->ask(format("%d %d %d %d %d %d", s.B, s.T, s.NH, s.NKV, s.HS, options_.launches));
            KILN_CHECK(answer, "the program of --peer ended at B ", s.B, ", T ", s.T, ", NH ", s.NH, ", NKV ", s.NKV,
                       ", HS ", s.HS, "; its messages are above; --peer - measures without it");
            add_answer(passes, *answer);
        }
        for (const int pass : {0, 1}) {
            const double tflop = 2e-12 * s.B * s.NH * s.T * s.T * s.HS * (pass == 0 ? 1 : 2.5);
            say(row(s, pass, passes[pass], tflop));
        }
    }

    std::string row(const Shape& s, int which, const Pass& pass, double tflop) const {
        const double ms = pass.kiln.median(), rate = tflop / ms * 1e3;
        std::string text =
            format("| %d | %d | %d | %d/%d | %s | %.3f | %.1f %% | %.1f | %.1f %% | %s |", s.HS, s.T, s.B, s.NH, s.NKV,
                   which == 0 ? "forward" : "backward", ms, pass.kiln.spread(), rate, 100 * rate / mma_tflop_per_s_,
                   s.goals[which] ? std::to_string(s.goals[which]).c_str() : "");
        for (const char* backend : kBackends) {
            const auto of = pass.peers.find(backend);
            if (of == pass.peers.end()) {
                text += peer_ ? " unsupported |" : " n/a |";
            } else {
                const double other = of->second.median();
                text += format(" %.1f%s +- %.1f %%, %.2fx |", tflop / other * 1e3, of->second.mark.c_str(),
                               of->second.spread(), other / ms);
            }
        }
        return text + "\n";
    }

    void decode(const Shape& s) {
        const size_t cached = size_t(s.B) * size_t(s.NKV) * size_t(s.T) * size_t(s.HS);
        const auto k = random_tensor(cached, 1, stream_), v = random_tensor(cached, 2, stream_);
        const auto qkv = random_tensor(size_t(s.B) * size_t((s.NH + 2 * s.NKV) * s.HS), 3, stream_);
        const DeviceBuffer<Elem> out(size_t(s.B) * size_t(s.NH * s.HS));
        const DeviceBuffer<float> scratch(attention_cached_scratch_floats(s.HS));
        const DeviceBuffer<int> arrivals(attention_cached_arrivals());
        const std::vector<int> last(size_t(s.B), s.T - 1);
        const DeviceBuffer<int> positions(last.size());
        CUDA_CHECK(cudaMemset(arrivals.get(), 0, arrivals.bytes()));
        CUDA_CHECK(cudaMemcpy(positions.get(), last.data(), positions.bytes(), cudaMemcpyHostToDevice));
        const CachedAttention<Elem> attention{
            out.get(), scratch.get(), arrivals.get(), qkv.get(), k.get(), v.get(), positions.get(), s.B,
            1,         s.T,           s.NH,           s.NKV,     s.HS};
        Times times;
        for (int round = 0; round < options_.rounds; ++round) {
            times.ms.push_back(timer_.median_ms([&](cudaStream_t on) { attention_cached(attention, on); }));
        }
        const double gb_per_s = 2.0 * double(cached) * sizeof(Elem) / times.median() * 1e-6;
        say(format("| %d | %d | %d | %d/%d | %.1f | %.1f %% | %.0f | %.1f %% |\n", s.HS, s.T, s.B, s.NH, s.NKV,
                   times.median() * 1e3, times.spread(), gb_per_s, 100 * gb_per_s / ceilings_.gb_per_s));
    }

    const Options options_;
    std::optional<Peer> peer_;
    std::string peer_name_ = "nothing", text_;
    Timer timer_;
    const Stream stream_;
    Ceilings ceilings_{};
    double mma_tflop_per_s_ = 0;
};

void run(const std::vector<std::string>& args) {
    Options options;
    OptionSet set("bench_attention", "Measures flash attention on a GPU, interleaved with PyTorch's.",
                  {"--peer - --rounds 5 --output -"});
    set.add(options.rounds, {.name = "rounds", .help = "rounds of Kiln and PyTorch at each shape", .min = 1});
    set.add(options.launches, {.name = "launches", .help = "the most timed launches of each in a round", .min = 1});
    set.add(options.shapes, {.name = "shapes", .help = "only so many of the training and decoding shapes", .min = 1});
    set.add(options.peer,
            {.name = "peer", .unit = "COMMAND", .help = "shell command of PyTorch's program; -: without"});
    set.add(options.output, {.name = "output", .unit = "DIR", .help = "directory for the table; -: no file"});
    set.add(options.small, {.name = "small", .help = "use small shapes and ceilings, to test this program"});
    if (!set.parse(args)) return;
    const std::string gpu = gpu_name();
    const std::string text = Bench(options).run(gpu);
    if (options.output != "-" && !options.small) {
        write_results(options.output + "/" + results_name("attention", gpu), text);
    }
}

}  // namespace
}  // namespace kiln::bench

int main(int argc, char** argv) {
    return kiln::bench::run_benchmark("bench_attention", kiln::bench::run, argc, argv);
}
