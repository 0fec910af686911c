#pragma once
// Runs a test once for each architecture whose limits the emulator plays.
#include <gtest/gtest.h>

#include <functional>

#include "dev/emulator/core/architecture.h"

namespace kiln::test {

inline void for_each_architecture(const std::function<void(int capability)>& body) {
    const int before = simt::architecture().capability;
    for (const int capability : {75, 80, 86, 89, 90, 100, 120}) {
        SCOPED_TRACE("SIMT_ARCH=" + std::to_string(capability));
        simt::set_architecture(capability);
        body(capability);
        if (testing::Test::HasFatalFailure()) break;
    }
    simt::set_architecture(before);
}

}  // namespace kiln::test
