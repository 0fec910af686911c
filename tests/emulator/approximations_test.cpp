// The device's approximations err, by no more than the CUDA C++ Programming Guide says.
#include <gtest/gtest.h>

#include <cmath>

#include "cuda/device/launch.h"
#include "cuda/kernels/ptx.cuh"
#include "dev/emulator/core/internal.h"

namespace kiln {
namespace {

int64_t ulps_between(float a, float b) {
    return std::abs(int64_t(std::bit_cast<uint32_t>(a)) - int64_t(std::bit_cast<uint32_t>(b)));
}

struct Function {
    const char* name;
    float (*approximate)(float);
    double (*exact)(double);
    double most_ulps, ulps_each;  // most_ulps + ulps_each |x|
};
constexpr Function kFunctions[] = {
    {"__expf", [](float x) { return __expf(x); }, [](double x) { return std::exp(x); }, 2, 1.173},
    {"rsqrtf", [](float x) { return rsqrtf(std::fabs(x)); }, [](double x) { return 1 / std::sqrt(std::fabs(x)); }, 2,
     0},
    {"exp2_approx", [](float x) { return exp2_approx(x); }, [](double x) { return std::exp2(x); }, 2, 0},
    {"__fdividef", [](float x) { return __fdividef(3.0f, x); }, [](double x) { return 3 / x; }, 2, 0},
};

TEST(Approximations, err_within_their_bounds_and_elsewhere_with_another_number) {
    for (const Function& f : kFunctions) {
        std::vector<std::vector<float>> results;
        for (const unsigned other : {0u, 1u, 2u}) {
            simt::set_errors(other);
            std::vector<float>& values = results.emplace_back();
            int64_t most = 0;
            for (float x = -40; x < 40; x += 0.37f) {
                const float exact = float(f.exact(x)), y = f.approximate(x);
                values.push_back(y);
                EXPECT_EQ(y, f.approximate(x)) << f.name;
                const double bound = f.most_ulps + std::floor(f.ulps_each * std::fabs(x));
                // The emulator's own exact value may be a unit off.
                EXPECT_LE(ulps_between(y, exact), bound + 1) << f.name << " of " << x;
                most = std::max(most, ulps_between(y, exact));
            }
            EXPECT_EQ(most > 1, other != 0) << f.name;
        }
        EXPECT_NE(results[1], results[2]) << f.name;
    }
    simt::set_errors(1);
    EXPECT_EQ(exp2_approx(-INFINITY), 0.0f);
    EXPECT_EQ(exp2_approx(-127.0f), 0.0f) << "no subnormal numbers";
    EXPECT_EQ(exp2_approx(0.0f), 1.0f);
    EXPECT_EQ(__fdividef(1.0f, 0x1p127f), 0.0f);
    EXPECT_TRUE(std::isnan(__fdividef(INFINITY, 0x1p127f)));
}

}  // namespace
}  // namespace kiln
