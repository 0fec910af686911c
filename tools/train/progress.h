#pragma once
// How far a run is. Together with the weights, the optimizer state and the loss scale, it determines how a run with the
// same data and options continues. Steps are numbered from 0 in the code and in the logs; users see step + 1. The
// number of a checkpoint is the number of steps done.
#include <cstdint>

#include "tools/train/logger.h"
#include "tools/train/outlier.h"

namespace kiln {

struct TrainProgress {
    int64_t step = 0;                            // steps done
    int64_t updates = 0;                         // the number of them that were applied; AdamW's t
    uint64_t position = 0;                       // in the order of the sequences
    int64_t validated_at = -1, sampled_at = -1;  // the last step with a validation, with a sample text
    OutlierWindow loss_window, norm_window;
    LogPosition log;
};

}  // namespace kiln
