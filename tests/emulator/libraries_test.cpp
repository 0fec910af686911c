// The emulated cudart and cuBLASLt: queued work is not done yet, and the calls that the real ones refuse are refused.
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

namespace kiln::test {
namespace {

constexpr unsigned kSeeds = 16;

void fill_kernel(float* out, float value) {
    out[threadIdx.x] = value;
}
template <int>
void empty_kernel() {}
void double_kernel(float* out, const float* in) {
    out[threadIdx.x] = 2 * in[threadIdx.x];
}

void fill(const Tensor<float>& out, float value, cudaStream_t stream) {
    launch<fill_kernel>({.grid = 1, .block = dim3(unsigned(out.size())), .stream = stream}, out.get(), value);
}

// In how many schedules `program` returns 1.
int schedules_with_one(const std::function<float()>& program) {
    int count = 0;
    for (unsigned seed = 0; seed < kSeeds; ++seed) {
        simt::set_seed(seed);
        count += program() == 1;
    }
    simt::set_seed(0);
    return count;
}

// ---- Streams and events.

TEST(SimtRuntime, memory_read_before_its_stream_is_done_may_be_old) {
    const auto read = [](bool wait) {
        const Stream stream;
        const Tensor<float> out(8);
        fill(out, 1, stream);
        if (wait) stream.synchronize();
        const float seen = *out.get();  // the host, without a copy that would wait
        stream.synchronize();
        return seen;
    };
    EXPECT_EQ(schedules_with_one([&] { return read(true); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return read(false); }), int(kSeeds));
}

TEST(SimtRuntime, a_copy_is_read_only_after_its_event) {
    const auto read = [](bool wait) {
        const Stream stream;
        const Event copied;
        const Tensor<float> out(8);
        const PinnedBuffer<float> host(8);
        fill(out, 1, stream);
        CUDA_CHECK(cudaMemcpyAsync(host.get(), out.get(), host.size() * sizeof(float), cudaMemcpyDeviceToHost, stream));
        copied.record(stream);
        if (wait) copied.synchronize();
        const float seen = host[0];
        stream.synchronize();
        return seen;
    };
    EXPECT_EQ(schedules_with_one([&] { return read(true); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return read(false); }), int(kSeeds));
}

TEST(SimtRuntime, streams_are_ordered_by_events_alone) {
    const auto chain = [](bool wait) {
        const Stream first, second;
        const Event filled;
        const Tensor<float> in(8), out(8);
        fill(in, 0.5f, first);
        filled.record(first);
        if (wait) CUDA_CHECK(cudaStreamWaitEvent(second, filled, 0));
        launch<double_kernel>({.grid = 1, .block = 8, .stream = second}, out.get(), in.get());
        second.synchronize();
        first.synchronize();
        return out.read()[0];
    };
    EXPECT_EQ(schedules_with_one([&] { return chain(true); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return chain(false); }), int(kSeeds));
}

// The legacy stream: what it copies and fills is there for another stream only after the host has waited for it.
TEST(SimtRuntime, legacy_stream_is_not_ordered_with_other_streams) {
    const auto doubled = [](bool copy, bool wait) {
        const Stream stream;
        const DeviceBuffer<float> in(8), out(8);
        std::vector<float> host(8, 0.5f);
        CUDA_CHECK(cudaMemset(in.get(), 0, in.bytes()));
        if (copy) CUDA_CHECK(cudaMemcpy(in.get(), host.data(), in.bytes(), cudaMemcpyHostToDevice));
        host.assign(8, 3);  // the copy does not read it any more
        if (wait) CUDA_CHECK(cudaStreamSynchronize(nullptr));
        launch<double_kernel>({.grid = 1, .block = 8, .stream = stream}, out.get(), in.get());
        stream.synchronize();
        return out.get()[0] + (copy ? 0.0f : 1.0f);
    };
    for (const bool copy : {true, false}) {
        EXPECT_EQ(schedules_with_one([&] { return doubled(copy, true); }), int(kSeeds));
        EXPECT_LT(schedules_with_one([&] { return doubled(copy, false); }), int(kSeeds));
    }
}

TEST(SimtRuntime, copy_to_the_host_waits_for_the_legacy_stream_alone) {
    const auto read = [](cudaStream_t fills) {
        const DeviceBuffer<float> out(8);
        launch<fill_kernel>({.grid = 1, .block = 8, .stream = fills}, out.get(), 1.0f);
        float seen = 0;
        CUDA_CHECK(cudaMemcpy(&seen, out.get(), sizeof seen, cudaMemcpyDeviceToHost));
        return seen;
    };
    const Stream stream;
    EXPECT_EQ(schedules_with_one([&] { return read(nullptr); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return read(stream); }), int(kSeeds));
}

TEST(SimtRuntime, stream_that_waits_for_the_legacy_stream_is_refused) {
    cudaStream_t stream = nullptr;
    EXPECT_EQ(taken(cudaStreamCreateWithFlags(&stream, cudaStreamDefault)), cudaErrorNotSupported);
}

TEST(SimtRuntime, work_of_a_destroyed_stream_is_not_waited_for) {
    const Tensor<float> out(8);
    const auto seen_after = [&](cudaError_t wait()) {
        fill(out, 0, nullptr);
        CUDA_CHECK(cudaDeviceSynchronize());
        { fill(out, 1, Stream()); }
        CUDA_CHECK(wait());
        return *out.get();
    };
    EXPECT_EQ(schedules_with_one([&] { return seen_after(cudaDeviceSynchronize); }), int(kSeeds));
    EXPECT_LT(schedules_with_one([&] { return seen_after(cudaGetLastError); }), int(kSeeds));
}

TEST(SimtRuntime, an_event_knows_whether_it_happened) {
    const Stream stream;
    const Event start, end;
    float ms = -1;
    EXPECT_EQ(taken(cudaEventElapsedTime(&ms, start, end)), cudaErrorInvalidValue);  // never recorded
    start.record(stream);
    end.record(stream);
    end.synchronize();
    EXPECT_EQ(cudaEventQuery(end), cudaSuccess);
    EXPECT_EQ(cudaEventElapsedTime(&ms, start, end), cudaSuccess);
    EXPECT_GE(ms, 0);
}

// ---- Graphs.

struct Graph {
    ~Graph() {
        if (exec) cudaGraphExecDestroy(exec);
        if (graph) cudaGraphDestroy(graph);
    }
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
};

TEST(SimtRuntime, a_capture_does_nothing_and_each_launch_uses_the_current_data) {
    for_each_schedule([] {
        const Stream stream;
        const Tensor<float> in(8), out(8);
        Graph graph;
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
        launch<double_kernel>({.grid = 1, .block = 8, .stream = stream}, out.get(), in.get());
        CUDA_CHECK(cudaStreamEndCapture(stream, &graph.graph));
        EXPECT_TRUE(std::isnan(out.read()[0]));
        CUDA_CHECK(cudaGraphInstantiate(&graph.exec, graph.graph, 0));
        for (const float value : {1.0f, 5.0f}) {
            fill(in, value, stream);
            CUDA_CHECK(cudaGraphLaunch(graph.exec, stream));
            stream.synchronize();
            EXPECT_EQ(out.read()[7], 2 * value);
        }
    });
}

// Drivers before CUDA 12.3 load a kernel at its first launch, and cannot while a stream is captured.
TEST(SimtRuntime, a_kernel_is_not_loaded_during_a_capture) {
    const Stream stream;
    const auto captured = [&](auto launch_kernel, auto before) {
        before();
        cudaGraph_t graph = nullptr;
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        const std::string report = message_of([&] { launch_kernel(); });
        CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
        CUDA_CHECK(cudaGraphDestroy(graph));
        return report;
    };
    const LaunchConfig config{.grid = 1, .block = 8, .stream = stream};
    EXPECT_EQ(captured([&] { launch<empty_kernel<0>>(config); }, [] {}),
              "simt: test::empty_kernel<0> is launched for the first time while its stream is captured; launch it once "
              "before");
    EXPECT_EQ(captured([&] { launch<empty_kernel<1>>(config); }, [&] { launch<empty_kernel<1>>(config); }), "");
    EXPECT_EQ(captured([&] { launch<empty_kernel<2>>(config); },
                       [&] {
                           cudaFuncAttributes attributes;
                           CUDA_CHECK(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(empty_kernel<2>)));
                       }),
              "");
}

TEST(SimtRuntime, waiting_and_taking_memory_break_a_capture) {
    const Stream stream;
    const std::function<cudaError_t()> calls[] = {
        [&] { return cudaStreamSynchronize(stream); }, [] { return cudaDeviceSynchronize(); },
        [] {
            void* p = nullptr;
            return cudaMalloc(&p, 8);
        },
        [] {
            int from = 0, to = 0;
            return cudaMemcpy(&to, &from, sizeof from, cudaMemcpyHostToDevice);
        }};
    for (const auto& call : calls) {
        cudaGraph_t graph = nullptr;
        CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        EXPECT_EQ(taken(call()), cudaErrorStreamCaptureUnsupported);
        EXPECT_EQ(taken(cudaStreamEndCapture(stream, &graph)), cudaErrorStreamCaptureInvalidated);
        EXPECT_EQ(graph, nullptr);
    }
}

TEST(SimtRuntime, a_capture_with_a_fork_that_was_not_joined_is_an_error) {
    for (const bool join : {false, true}) {
        const Stream origin, side;
        const Event fork, done;
        const Tensor<float> out(8);
        Graph graph;
        CUDA_CHECK(cudaStreamBeginCapture(origin, cudaStreamCaptureModeGlobal));
        fork.record(origin);
        CUDA_CHECK(cudaStreamWaitEvent(side, fork, 0));
        fill(out, 1, side);
        if (join) {
            done.record(side);
            CUDA_CHECK(cudaStreamWaitEvent(origin, done, 0));
        }
        EXPECT_EQ(taken(cudaStreamEndCapture(origin, &graph.graph)),
                  join ? cudaSuccess : cudaErrorStreamCaptureUnjoined);
        EXPECT_EQ(graph.graph != nullptr, join);
    }
}

// ---- Memory.

TEST(SimtRuntime, fresh_memory_is_nan) {
    const DeviceBuffer<float> buffer(5);
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(std::isnan(buffer.get()[i]));
}

TEST(SimtRuntime, freeing_twice_or_what_was_never_allocated_is_an_error) {
    void* p = nullptr;
    CUDA_CHECK(cudaMalloc(&p, 64));
    EXPECT_EQ(taken(cudaFree(static_cast<char*>(p) + 8)), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFree(p), cudaSuccess);
    EXPECT_EQ(taken(cudaFree(p)), cudaErrorInvalidValue);
    EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
}

TEST(SimtRuntime, more_memory_than_the_device_has_is_an_error) {
    size_t free = 0, total = 0;
    CUDA_CHECK(cudaMemGetInfo(&free, &total));
    void* p = nullptr;
    EXPECT_EQ(taken(cudaMalloc(&p, total + 1)), cudaErrorMemoryAllocation);
    EXPECT_EQ(p, nullptr);
}

// ---- cuBLASLt. D (m, n) = op(A) op(B), column-major.

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
