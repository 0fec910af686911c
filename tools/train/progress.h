#pragma once
// The position of a run. The next step depends only on it, the weights and the optimizer state.
#include <cstdint>

#include "tools/train/logger.h"
#include "tools/train/outlier.h"

namespace kiln {

struct TrainProgress {
    int64_t step = 0;                            // steps done
    int64_t updates = 0;                         // the number of them that were applied; AdamW's t
    uint64_t position = 0;                       // in the order of samples
    int64_t validated_at = -1, sampled_at = -1;  // the last step with a validation, with a sample
    OutlierWindow loss_window, norm_window;
    LogPosition log;
};

}  // namespace kiln
