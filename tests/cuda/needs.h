#pragma once
// Tests that need a newer GPU are skipped with the reason. Without that a kernel would trap there, and after a trap
// every later test of the process fails.
#include <gtest/gtest.h>

#include "cuda/device/attributes.h"

#define KILN_SKIP_BELOW(needed)                                                                   \
    do {                                                                                          \
        if (const int has = kiln::compute_capability(); has < (needed)) {                         \
            GTEST_SKIP() << "skipped: needs sm_" << (needed) << ", but the device is sm_" << has; \
        }                                                                                         \
    } while (false)
