// ... and what most tests include.
#include <gtest/gtest.h>

#include "dev/make/precompiled/host.h"
