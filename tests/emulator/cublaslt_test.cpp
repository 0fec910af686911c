// The stand-in for cuBLASLt: D (m, n) = op(A) op(B), column-major.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>
#include <tuple>

#include "cpu_reference/interface/error.h"
#include "cuda/device/launch.h"
#include "dev/emulator/core/internal.h"
#include "tests/cuda/kernel_case.h"
#include "tests/cuda/schedules.h"
#include "tests/emulator/reports.h"

namespace kiln::test {
namespace {

class MatmulCall {
public:
    MatmulCall(int m, int n, int k, cudaDataType type = CUDA_R_32F) : MatmulCall(m, n, k, type, type) {}
    MatmulCall(int m, int n, int k, cudaDataType type, cudaDataType output,
               cublasComputeType_t compute = CUBLAS_COMPUTE_32F) {
        CUBLAS_CHECK(cublasLtMatmulDescCreate(&op, compute, CUDA_R_32F));
        CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&a, type, uint64_t(m), uint64_t(k), m));
        CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&b, type, uint64_t(k), uint64_t(n), k));
        CUBLAS_CHECK(cublasLtMatrixLayoutCreate(&d, output, uint64_t(m), uint64_t(n), m));
        CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
        prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(1) << 16);
        for (int i = 0; i < 4; ++i) {
            prefer(cublasLtMatmulPreferenceAttributes_t(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES + i), uint32_t(16));
        }
    }
    ~MatmulCall() {
        cublasLtMatmulPreferenceDestroy(preference);
        for (const cublasLtMatrixLayout_t one : {a, b, d}) cublasLtMatrixLayoutDestroy(one);
        cublasLtMatmulDescDestroy(op);
    }
    template <class V>
    void prefer(cublasLtMatmulPreferenceAttributes_t attribute, V value) {
        CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
    }
    template <class V>
    cublasStatus_t set(cublasLtMatmulDescAttributes_t attribute, V value) {
        return cublasLtMatmulDescSetAttribute(op, attribute, &value, sizeof value);
    }
    cublasStatus_t find(int wanted = 8) {
        found.assign(size_t(wanted), {});
        int count = 0;
        const cublasStatus_t status =
            cublasLtMatmulAlgoGetHeuristic(handle, op, a, b, d, d, preference, wanted, found.data(), &count);
        found.resize(size_t(count));
        return status;
    }
    cublasStatus_t run(const void* pa, const void* pb, void* pd, const cublasLtMatmulAlgo_t* algo, void* workspace,
                       size_t bytes, cudaStream_t stream, float beta = 0) {
        const float alpha = 1;
        return cublasLtMatmul(handle, op, &alpha, pa, a, pb, b, &beta, pd, d, pd, d, algo, workspace, bytes, stream);
    }

    CublasLt handle;
    cublasLtMatmulDesc_t op = nullptr;
    cublasLtMatrixLayout_t a = nullptr, b = nullptr, d = nullptr;
    cublasLtMatmulPreference_t preference = nullptr;
    std::vector<cublasLtMatmulHeuristicResult_t> found;
};

TEST(SimtCublasLt, each_algorithm_multiplies_or_fails_at_its_launch) {
    constexpr int m = 24, n = 13, k = 72;
    MatmulCall matmul(m, n, k);
    const Tensor<float> a(random_values(m * k, 1)), b(random_values(k * n, 2));
    const Tensor<unsigned char> workspace(1 << 16);
    ASSERT_EQ(matmul.find(), CUBLAS_STATUS_SUCCESS);
    ASSERT_EQ(matmul.found.size(), 4u);
    std::vector<float> expected(size_t(m) * n);
    for (int j = 0; j < n; ++j) {
        for (int i = 0; i < m; ++i) {
            double sum = 0;
            for (int l = 0; l < k; ++l) sum += double(a.values()[size_t(l * m + i)]) * b.values()[size_t(j * k + l)];
            expected[size_t(j * m + i)] = float(sum);
        }
    }
    for_each_schedule([&] {
        int failed = 0;
        for (const auto& algorithm : matmul.found) {
            const Stream stream;
            const Tensor<float> d(expected.size());
            failed += matmul.run(a.get(), b.get(), d.get(), &algorithm.algo, workspace.get(), workspace.size(),
                                 stream) != CUBLAS_STATUS_SUCCESS;
            stream.synchronize();
            if (!std::isnan(d.read()[0])) expect_close("d", d, expected, k);
        }
        EXPECT_EQ(failed, 1);
    });
}

// The first rows of a product, by every algorithm that can be launched.
std::vector<std::vector<float>> first_rows(int n, int rows) {
    constexpr int m = 8, k = 24;
    MatmulCall matmul(m, n, k);
    const Tensor<float> a(random_values(m * k, 1)), b(random_values(size_t(k) * n, 2)), d(size_t(m) * n);
    const Tensor<unsigned char> workspace(1 << 16);
    const Stream stream;
    CUBLAS_CHECK(matmul.find());
    std::vector<std::vector<float>> all;
    for (const auto& found : matmul.found) {
        if (matmul.run(a.get(), b.get(), d.get(), &found.algo, workspace.get(), workspace.size(), stream) == 0) {
            stream.synchronize();
            all.push_back(d.read());
            all.back().resize(size_t(m) * rows);
        }
    }
    return all;
}

TEST(SimtCublasLt, order_of_a_sum_depends_on_the_shape_and_the_algorithm) {
    std::set<std::vector<float>> bits;
    for (const int n : {5, 22}) {
        for (const auto& rows : first_rows(n, 5)) bits.insert(rows);
    }
    EXPECT_EQ(bits.size(), 6u);
    EXPECT_EQ(first_rows(5, 5), first_rows(5, 5));
}

// The heuristic may offer what cannot be launched, and may offer it first.
TEST(SimtCublasLt, first_offer_may_fail_in_two_ways) {
    std::set<cublasStatus_t> statuses;
    const Tensor<float> x(64 * 64);
    const Tensor<unsigned char> workspace(1 << 16);
    const Stream stream;
    for (int n = 4; n <= 64; n += 4) {
        MatmulCall matmul(16, n, 8);
        ASSERT_EQ(matmul.find(1), CUBLAS_STATUS_SUCCESS);
        const cublasStatus_t status =
            matmul.run(x.get(), x.get(), x.get(), &matmul.found[0].algo, workspace.get(), workspace.size(), stream);
        statuses.insert(status);
        EXPECT_EQ(cudaGetLastError() != cudaSuccess, status == CUBLAS_STATUS_EXECUTION_FAILED);
        EXPECT_EQ(cudaGetLastError(), cudaSuccess);
    }
    stream.synchronize();
    EXPECT_EQ(statuses, (std::set{CUBLAS_STATUS_SUCCESS, CUBLAS_STATUS_NOT_SUPPORTED, CUBLAS_STATUS_EXECUTION_FAILED}));
}

TEST(SimtCublasLt, heuristic_breaks_a_capture) {
    MatmulCall matmul(16, 16, 16);
    const Stream stream;
    cudaGraph_t graph = nullptr;
    CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    EXPECT_EQ(matmul.find(), CUBLAS_STATUS_INTERNAL_ERROR);
    EXPECT_EQ(taken(cudaStreamEndCapture(stream, &graph)), cudaErrorStreamCaptureInvalidated);
}

TEST(SimtCublasLt, tensor_cores_need_columns_of_whole_16_bytes) {
    for (const int m : {16, 17}) {
        MatmulCall matmul(m, 16, 16);
        ASSERT_EQ(matmul.find(), CUBLAS_STATUS_SUCCESS);
        EXPECT_EQ(matmul.found.size(), m == 16 ? 4u : 2u);
    }
}

TEST(SimtCublasLt, types_that_do_not_go_together_are_refused) {
    const std::tuple<cublasComputeType_t, cudaDataType, cudaDataType, cublasStatus_t> cases[] = {
        {CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUDA_R_32F, CUBLAS_STATUS_SUCCESS},
        {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_32F, CUDA_R_32F, CUBLAS_STATUS_SUCCESS},
        {CUBLAS_COMPUTE_32F_FAST_TF32, CUDA_R_16BF, CUDA_R_16BF, CUBLAS_STATUS_NOT_SUPPORTED},
        {CUBLAS_COMPUTE_32F, CUDA_R_16BF, CUDA_R_16F, CUBLAS_STATUS_NOT_SUPPORTED},
        {CUBLAS_COMPUTE_32F, CUDA_R_32F, CUDA_R_16BF, CUBLAS_STATUS_NOT_SUPPORTED},
        {CUBLAS_COMPUTE_16F, CUDA_R_16F, CUDA_R_16F, CUBLAS_STATUS_NOT_SUPPORTED},
    };
    for (const auto& [compute, inputs, output, status] : cases) {
        EXPECT_EQ(MatmulCall(16, 16, 16, inputs, output, compute).find(), status) << compute << inputs << output;
    }
}

TEST(SimtCublasLt, a_smaller_workspace_leaves_fewer_algorithms) {
    MatmulCall matmul(16, 16, 16);
    matmul.prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t(0));
    ASSERT_EQ(matmul.find(), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(matmul.found.size(), 3u);
    ASSERT_EQ(matmul.find(1), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(matmul.found.size(), 1u);
}

TEST(SimtCublasLt, an_attribute_of_the_wrong_size_is_refused) {
    MatmulCall matmul(8, 8, 8);
    EXPECT_EQ(matmul.set(CUBLASLT_MATMUL_DESC_TRANSA, int64_t(CUBLAS_OP_T)), CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, int32_t(8)), CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(matmul.set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(CUBLAS_OP_T)), CUBLAS_STATUS_SUCCESS);
}

TEST(SimtCublasLt, shapes_that_do_not_fit_are_refused) {
    MatmulCall matmul(8, 16, 24);
    ASSERT_EQ(matmul.set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t(CUBLAS_OP_T)), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(matmul.find(), CUBLAS_STATUS_INVALID_VALUE);
}

TEST(SimtCublasLt, the_input_of_gelu_needs_its_stride_and_alignment) {
    MatmulCall matmul(16, 8, 8, CUDA_R_16BF);
    const Tensor<__nv_bfloat16> aux(16 * 8);
    const auto find = [&](void* pointer, int64_t ld) {
        CUBLAS_CHECK(matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(CUBLASLT_EPILOGUE_GELU_AUX)));
        CUBLAS_CHECK(matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, pointer));
        CUBLAS_CHECK(matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, ld));
        return matmul.find();
    };
    EXPECT_EQ(find(aux.get(), 16), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(find(aux.get(), 20), CUBLAS_STATUS_INVALID_VALUE);      // no multiple of 8
    EXPECT_EQ(find(aux.get(), 8), CUBLAS_STATUS_INVALID_VALUE);       // shorter than a column
    EXPECT_EQ(find(aux.get() + 4, 16), CUBLAS_STATUS_INVALID_VALUE);  // 8 bytes off
    EXPECT_EQ(find(nullptr, 16), CUBLAS_STATUS_INVALID_VALUE);
}

TEST(SimtCublasLt, the_bias_has_the_type_of_the_output) {
    MatmulCall matmul(16, 8, 8, CUDA_R_16BF);
    const Tensor<float> bias(16);
    CUBLAS_CHECK(matmul.set(CUBLASLT_MATMUL_DESC_EPILOGUE, uint32_t(CUBLASLT_EPILOGUE_BIAS)));
    EXPECT_EQ(matmul.find(), CUBLAS_STATUS_INVALID_VALUE);  // none given
    CUBLAS_CHECK(matmul.set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, static_cast<void*>(bias.get())));
    EXPECT_EQ(matmul.find(), CUBLAS_STATUS_SUCCESS);
    CUBLAS_CHECK(matmul.set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, int32_t(CUDA_R_32F)));
    EXPECT_EQ(matmul.find(), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST(SimtCublasLt, addresses_and_workspace_are_checked_against_the_algorithm) {
    MatmulCall matmul(16, 16, 32);
    const Tensor<float> a(random_values(16 * 32 + 8, 1)), b(random_values(16 * 32, 2)), d(16 * 16);
    const Tensor<unsigned char> workspace(1 << 16);
    ASSERT_EQ(matmul.find(), CUBLAS_STATUS_SUCCESS);
    const auto split = std::find_if(matmul.found.begin(), matmul.found.end(),
                                    [](const auto& result) { return result.workspaceSize > 0; });
    ASSERT_NE(split, matmul.found.end());
    const Stream stream;
    const auto run = [&](const float* from, unsigned char* space, size_t bytes) {
        return matmul.run(from, b.get(), d.get(), &split->algo, space, bytes, stream);
    };
    EXPECT_EQ(run(a.get(), workspace.get(), split->workspaceSize), CUBLAS_STATUS_SUCCESS);
    EXPECT_EQ(run(a.get() + 1, workspace.get(), split->workspaceSize), CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(run(a.get(), workspace.get(), split->workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(run(a.get(), workspace.get() + 16, split->workspaceSize), CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(run(a.get(), nullptr, split->workspaceSize), CUBLAS_STATUS_INVALID_VALUE);
    EXPECT_EQ(run(nullptr, workspace.get(), split->workspaceSize), CUBLAS_STATUS_INVALID_VALUE);
    stream.synchronize();
}

TEST(SimtCublasLt, a_matmul_waits_in_its_stream) {
    const auto first_element = [](bool wait) {
        MatmulCall matmul(8, 8, 8);
        const Tensor<float> a(std::vector<float>(64, 1)), b(std::vector<float>(64, 0.125f)), d(64);
        const Stream stream;
        CUBLAS_CHECK(matmul.run(a.get(), b.get(), d.get(), nullptr, nullptr, 0, stream));
        if (wait) stream.synchronize();
        const float seen = *d.get();
        stream.synchronize();
        return seen;
    };
    EXPECT_EQ(schedules_with_one([&] { return first_element(true); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return first_element(false); }), int(kSeeds));
}

}  // namespace
}  // namespace kiln::test
