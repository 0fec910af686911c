// `make bench-kernels`: the launches of tests/cuda/cases_*.cpp at their real shapes, timed with a cold L2 cache, beside
// the rate of a copy and of a matrix product in the same run.
#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "cpu_reference/interface/error.h"
#include "dev/bench/support/ceilings.h"
#include "dev/bench/support/results.h"
#include "tests/cuda/kernel_case.h"

namespace kiln::bench {
namespace {

using test::Element;
using test::KernelFamily;
using test::Shape;

constexpr const char* kUsage = R"(bench_kernels [options]
  --filter TEXT      only kernels whose name contains TEXT; several: A,B
  --elements LIST    of float32, bfloat16, float16 (default: float32,bfloat16)
  --launches N       timed launches of each, at most (default: 50)
  --json FILE        the same figures as JSON
  --output DIR       where the table goes (default: dev/bench/results; "-": nowhere)
  --small            tests' shapes and small ceilings: to try the program, not to measure
)";

struct Options {
    std::vector<std::string> filters, elements = {"float32", "bfloat16"};
    int launches = 50;
    std::string json, output = "dev/bench/results";
    bool small = false;
};

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
    return parts;
}

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string name = argv[i];
        if (name == "--small") {
            options.small = true;
            continue;
        }
        KILN_CHECK(i + 1 < argc, name, " is unknown or lacks its value\n", kUsage);
        const std::string value = argv[++i];
        if (name == "--filter") {
            options.filters = split(value);
        } else if (name == "--elements") {
            options.elements = split(value);
        } else if (name == "--launches") {
            options.launches = std::atoi(value.c_str());
            KILN_CHECK(options.launches > 0, "--launches ", value, ": at least 1");
        } else if (name == "--json") {
            options.json = value;
        } else if (name == "--output") {
            options.output = value;
        } else {
            throw Error("unknown option " + name + "\n" + kUsage);
        }
    }
    return options;
}

struct Row {
    std::string kernel, element, shape;
    double ms, bytes, flops;
};

// What bounds a kernel is whichever ceiling it comes nearer to.
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
    "| kernel | type | shape | us | GB/s | of the copy | TFLOP/s | of the product |\n"
    "|---|---|---|---:|---:|---:|---:|---:|";

bool is_wanted(const std::vector<std::string>& filters, const std::string& name) {
    return filters.empty() || std::any_of(filters.begin(), filters.end(),
                                          [&](const std::string& filter) { return name.find(filter) != name.npos; });
}

std::vector<Row> run(const Options& options, Timer& timer, const Ceilings& ceilings) {
    std::vector<Row> rows;
    for (const KernelFamily& family : test::kernel_families()) {
        if (!is_wanted(options.filters, family.name)) continue;
        for (const Element element : family.elements) {
            const std::string name = test::name_of(element);
            if (std::find(options.elements.begin(), options.elements.end(), name) == options.elements.end()) continue;
            for (const Shape& shape : options.small ? family.test_shapes : family.bench_shapes) {
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
                          {"product_tflop_per_s", ceilings.tflop_per_s},
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
                                  {"of_product", tflop_per_s / ceilings.tflop_per_s}});
    }
    return all;
}

int main_of(int argc, char** argv) {
    const Options options = parse(argc, argv);
    const std::string gpu = gpu_name();
    Timer timer(options.launches);
    const Ceilings ceilings = measure_ceilings(timer, options.small);
    std::ostringstream intro;
    intro << "# Kernels on " << gpu << ", " << today() << "\n\n"
          << "Medians of at most " << options.launches << " launches, cold L2 cache. Ceilings of the same run: copy "
          << int(ceilings.gb_per_s) << " GB/s (read and written), product " << (options.small ? "" : "8192^3 ")
          << "in bfloat16 " << int(ceilings.tflop_per_s) << " TFLOP/s.\n\n"
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
    return 0;
}

}  // namespace
}  // namespace kiln::bench

int main(int argc, char** argv) {
    return kiln::bench::run_benchmark("bench_kernels", kiln::bench::main_of, argc, argv);
}
