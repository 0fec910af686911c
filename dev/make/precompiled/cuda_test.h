// ... and what most of its tests include.
#include <gtest/gtest.h>

#include <random>

#include "dev/make/precompiled/cuda.h"
