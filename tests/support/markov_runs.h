#pragma once
// A fixture for training runs on shards that are written once for all of its tests.
#include <gtest/gtest.h>

#include <memory>

#include "tests/support/markov_data.h"
#include "tests/support/temp_directory.h"

namespace kiln {

class MarkovRuns : public testing::Test {
protected:
    static void SetUpTestSuite() {
        data_ = std::make_unique<TempDirectory>();
        write_markov_shards(data_->path(), 20000, 2000);
    }
    static void TearDownTestSuite() { data_.reset(); }

    inline static std::unique_ptr<TempDirectory> data_;
    TempDirectory directory_;
};

}  // namespace kiln
