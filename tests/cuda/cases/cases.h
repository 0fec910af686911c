#pragma once
// The families of kernels, one function a file of cases.
#include <vector>

#include "tests/cuda/kernel_case.h"

namespace kiln::test {

void add_adamw_families(std::vector<KernelFamily>& families);
void add_sample_families(std::vector<KernelFamily>& families);
void add_attention_cached_families(std::vector<KernelFamily>& families);
void add_attention_families(std::vector<KernelFamily>& families);
void add_bias_families(std::vector<KernelFamily>& families);
void add_cast_families(std::vector<KernelFamily>& families);
void add_dropout_families(std::vector<KernelFamily>& families);
void add_embedding_families(std::vector<KernelFamily>& families);
void add_flash_attention_families(std::vector<KernelFamily>& families);
void add_loss_families(std::vector<KernelFamily>& families);
void add_mlp_families(std::vector<KernelFamily>& families);
void add_norm_backward_families(std::vector<KernelFamily>& families);
void add_norm_families(std::vector<KernelFamily>& families);
void add_ptx_families(std::vector<KernelFamily>& families);
void add_qk_norm_families(std::vector<KernelFamily>& families);
void add_rope_families(std::vector<KernelFamily>& families);

inline void add_all_families(std::vector<KernelFamily>& families) {
    add_adamw_families(families);
    add_sample_families(families);
    add_attention_cached_families(families);
    add_attention_families(families);
    add_bias_families(families);
    add_cast_families(families);
    add_dropout_families(families);
    add_embedding_families(families);
    add_flash_attention_families(families);
    add_loss_families(families);
    add_mlp_families(families);
    add_norm_backward_families(families);
    add_norm_families(families);
    add_ptx_families(families);
    add_qk_norm_families(families);
    add_rope_families(families);
}

}  // namespace kiln::test
