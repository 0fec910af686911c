#pragma once

namespace kiln {

struct AdamWStep;

// What AdamW (arXiv:1711.05101) takes besides its tensors, the same on every backend: m and v are moving averages of a
// gradient and its square, corrected for their start at 0; p -= lr * (m^ / (sqrt(v^) + eps) + weight_decay * p).
struct AdamWStepSize {
    float lr, beta1, beta2, eps, weight_decay, correction1, correction2;  // correction: 1 - beta^t
};
// Throws Error where step.t is below 1.
AdamWStepSize step_size(const AdamWStep& step);

}  // namespace kiln
