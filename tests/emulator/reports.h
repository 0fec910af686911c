#pragma once
// What the emulator says about a program that does something wrong.
#include <gtest/gtest.h>

#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "cuda/device/handles.h"
#include "dev/emulator/core/internal.h"
#include "tests/cuda/schedules.h"

namespace kiln::test {

// The report about a program that does something wrong.
inline std::string report_of(const std::function<void(cudaStream_t)>& program) {
    try {
        const Stream stream;
        program(stream);
        stream.synchronize();
    } catch (const std::exception& error) {
        return error.what();
    }
    return "no report";
}

inline void expect_report(const std::function<void(cudaStream_t)>& program, const std::vector<std::string>& parts) {
    for_each_schedule([&] {
        const std::string report = report_of(program);
        for (const std::string& part : parts) {
            EXPECT_TRUE(report.find(part) != report.npos) << part << ": not in: " << report;
        }
    });
}

constexpr unsigned kSeeds = 16;
// In how many schedules `program` returns 1.
inline int schedules_with_one(const std::function<float()>& program) {
    int count = 0;
    for (unsigned seed = 0; seed < kSeeds; ++seed) {
        simt::set_seed(seed);
        count += program() == 1;
    }
    simt::set_seed(0);
    return count;
}

}  // namespace kiln::test
