// `make bench-kernels`: times the launches of tests/cuda/cases at the shapes of real models with a cold L2 cache, and
// compares them with the rates of a copy and of a matmul in the same run.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "dev/bench/support/ceilings.h"
#include "dev/bench/support/program.h"
#include "dev/bench/support/results.h"
#include "tests/cuda/kernel_case.h"
#include "tools/cli/options.h"

namespace kiln::bench {
namespace {

using test::Element;
using test::KernelFamily;
using test::Shape;

struct Options {
    std::vector<std::string> filters, elements = {"float32", "bfloat16"};
    int launches = 50;
    std::string json, output = "dev/bench/results";
    bool small = false, brief = false;
};

// The kernels of a step of GPT-2 124M with 64 x 1024 tokens, in the order of their predicted share of it: the family,
// and how many of its first shapes. The plain attention is that of GPUs without flash attention.
constexpr std::pair<const char*, size_t> kOfAStep[] = {
    {"flash_attention_backward", 1},
    {"flash_attention_forward", 1},
    {"attention_backward", 1},
    {"attention_forward", 1},
    {"gelu_backward", 1},
    {"cross_entropy", 1},
    {"bias_backward_float_gradient", 3},
    {"layernorm_backward", 1},
    {"residual_layernorm_forward", 1},
    {"gelu_forward", 1},
    {"adamw_master", 1},
    {"embedding_backward", 1},
    {"embedding_forward", 1},
    {"layernorm_forward", 1},
};

struct Row {
    std::string kernel, element, shape;
    double ms, bytes, flops;
};

// The ceiling to which a kernel comes nearer is the one that bounds it.
std::string text_of(const Row& row, const Ceilings& ceilings) {
    const double gb_per_s = row.bytes / row.ms * 1e-6, tflop_per_s = row.flops / row.ms * 1e-9;
    char line[256];
    std::snprintf(line, sizeof line, "| %-30s | %-8s | %-32s | %9.2f | %7.0f | %5.1f %% |", row.kernel.c_str(),
                  row.element.c_str(), row.shape.c_str(), row.ms * 1e3, gb_per_s, 100 * gb_per_s / ceilings.gb_per_s);
    std::string text = line;
    if (row.flops > 0) {
        std::snprintf(line, sizeof line, " %7.1f | %5.1f %% |", tflop_per_s, 100 * tflop_per_s / ceilings.tflop_per_s);
        text += line;
    } else {
        text += "         |         |";
    }
    return text;
}

constexpr const char* kHeader =
    "| kernel | type | shape | us | GB/s | of the copy | TFLOP/s | of the matmul |\n"
    "|---|---|---|---:|---:|---:|---:|---:|";

bool is_wanted(const std::vector<std::string>& filters, const std::string& name) {
    return filters.empty() || std::any_of(filters.begin(), filters.end(),
                                          [&](const std::string& filter) { return name.find(filter) != name.npos; });
}

// The families to measure, each with its shapes as its bench_shapes.
std::vector<KernelFamily> families(const Options& options) {
    std::vector<KernelFamily> all = test::kernel_families();
    if (options.small) {
        for (KernelFamily& family : all) family.bench_shapes = family.test_shapes;
    }
    if (!options.brief) return all;
    std::vector<KernelFamily> of_a_step;
    for (const auto& [name, shapes] : kOfAStep) {
        const std::string_view wanted = name;
        if (wanted.find("attention") != wanted.npos && wanted.starts_with("flash") != has_bfloat16()) continue;
        const auto family = std::ranges::find(all, wanted, &KernelFamily::name);
        KILN_CHECK(family != all.end(), "there is no kernel ", name);
        of_a_step.push_back(*family);
        of_a_step.back().bench_shapes.resize(shapes);
    }
    return of_a_step;
}

std::vector<Row> run(const Options& options, Timer& timer, const Ceilings& ceilings) {
    std::vector<Row> rows;
    for (const KernelFamily& family : families(options)) {
        if (!is_wanted(options.filters, family.name)) continue;
        for (const Element element : family.elements) {
            const std::string name = test::name_of(element);
            if (std::find(options.elements.begin(), options.elements.end(), name) == options.elements.end()) continue;
            for (const Shape& shape : family.bench_shapes) {
                const auto one = family.make(element, shape);
                const double ms = timer.median_ms([&](cudaStream_t stream) { one->launch(stream); });
                rows.push_back({family.name, name, test::to_string(shape), ms, one->bytes, one->flops});
                std::cout << text_of(rows.back(), ceilings) << std::endl;
            }
        }
    }
    return rows;
}

nlohmann::json to_json(const std::vector<Row>& rows, const Ceilings& ceilings, const std::string& device) {
    nlohmann::json all = {{"device", device},
                          {"date", today()},
                          {"copy_gb_per_s", ceilings.gb_per_s},
                          {"matmul_tflop_per_s", ceilings.tflop_per_s},
                          {"kernels", nlohmann::json::array()}};
    for (const Row& row : rows) {
        const double gb_per_s = row.bytes / row.ms * 1e-6, tflop_per_s = row.flops / row.ms * 1e-9;
        all["kernels"].push_back({{"kernel", row.kernel},
                                  {"type", row.element},
                                  {"shape", row.shape},
                                  {"us", row.ms * 1e3},
                                  {"bytes", row.bytes},
                                  {"flops", row.flops},
                                  {"gb_per_s", gb_per_s},
                                  {"of_copy", gb_per_s / ceilings.gb_per_s},
                                  {"tflop_per_s", tflop_per_s},
                                  {"of_matmul", tflop_per_s / ceilings.tflop_per_s}});
    }
    return all;
}

void run_all(const std::vector<std::string>& args) {
    Options options;
    OptionSet set("bench_kernels", "Measures each kernel on a GPU, and a copy and a matmul for comparison.",
                  {"--filter norm,attention --elements bfloat16", "--brief --output -"});
    set.add(options.filters,
            {.name = "filter", .unit = "TEXT", .help = "only kernels with one of these in their names"});
    set.add(options.elements, {.name = "elements", .unit = "TYPE", .help = "some of float32, bfloat16, float16"});
    set.add(options.launches, {.name = "launches", .help = "the most timed launches of a kernel", .min = 1});
    set.add(options.json, {.name = "json", .unit = "FILE", .help = "write the figures as JSON; empty: no file"});
    set.add(options.output, {.name = "output", .unit = "DIR", .help = "directory for the table; -: no file"});
    set.add(options.brief, {.name = "brief", .help = "only the kernels and shapes of a step of GPT-2 124M"});
    set.add(options.small, {.name = "small", .help = "use small shapes and ceilings, to test this program"});
    if (!set.parse(args)) return;
    options.filters = split_at_commas(options.filters);
    options.elements = split_at_commas(options.elements);
    const std::string gpu = gpu_name();
    Timer timer(options.launches);
    const Ceilings ceilings = measure_ceilings(timer, options.small);
    std::ostringstream intro;
    intro << "# Kernels on " << gpu << ", " << today() << "\n\n"
          << "Medians of at most " << options.launches << " launches, cold L2 cache. Ceilings of the same run: copy "
          << int(ceilings.gb_per_s) << " GB/s (read and written), matmul " << (options.small ? "" : "8192^3 ")
          << "in 16 bits " << int(ceilings.tflop_per_s) << " TFLOP/s.\n\n"
          << kHeader << "\n";
    std::cout << intro.str() << std::flush;
    const std::vector<Row> rows = run(options, timer, ceilings);
    KILN_CHECK(!rows.empty(), "no kernel has a name with the text of --filter and one of --elements");
    if (!options.json.empty()) write_results(options.json, to_json(rows, ceilings, gpu).dump(2) + "\n");
    if (options.output != "-" && !options.small) {
        std::string table = intro.str();
        for (const Row& row : rows) table += text_of(row, ceilings) + "\n";
        write_results(options.output + "/" + results_name("kernels", gpu), table);
    }
}

}  // namespace
}  // namespace kiln::bench

int main(int argc, char** argv) {
    return kiln::bench::run_benchmark("bench_kernels", kiln::bench::run_all, argc, argv);
}
