#include "cpu_reference/ops/ops.h"

namespace kiln {

void rope(float* qkv, const float* table, int first_position, int B, int T, int NH, int NKV, int HS, bool backward) {
    const int half = HS / 2, stride = (NH + 2 * NKV) * HS;
    const float direction = backward ? -1.0f : 1.0f;
#pragma omp parallel for
    for (int n = 0; n < B * T; n++) {
        const float* rotation = table + size_t(first_position + n % T) * HS;  // (HS/2) of cos, sin
        for (int h = 0; h < NH + NKV; h++) {
            float* low = qkv + size_t(n) * stride + h * HS;
            float* high = low + half;
            for (int i = 0; i < half; i++) {
                const float cosine = rotation[2 * i], sine = direction * rotation[2 * i + 1];
                const float a = low[i], b = high[i];
                low[i] = a * cosine - b * sine;
                high[i] = b * cosine + a * sine;
            }
        }
    }
}

}  // namespace kiln
