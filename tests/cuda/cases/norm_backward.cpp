// Cases of cuda/kernels/norm_backward.cu.
#include "cpu_reference/ops/ops.h"
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/rows.h"

namespace kiln::test {
namespace {

// The device adds up rows in another order than the reference. So many roundings of the result cover the difference.
constexpr double kTerms = 64;

template <class T, class G, bool kLayerNorm>
class NormBackwardCase : public KernelCase, Rows {
public:
    explicit NormBackwardCase(const Shape& shape)
        : Rows(shape),
          dy_(random_values(elems(), 1)),
          x_(random_values(elems(), 2)),
          w_(random_values(C, 3)),
          dx_(random_values(elems(), 4)),
          dw_(random_values(C, 5)),
          db_(random_values(C, 6)) {
        std::vector<float> y(elems()), mean(N), rstd(N);
        if (kLayerNorm) {
            layernorm_forward(y.data(), mean.data(), rstd.data(), x_.values().data(), y.data(), y.data(), kNormEps, N,
                              C);
        } else {
            rmsnorm_forward(y.data(), rstd.data(), x_.values().data(), y.data(), kNormEps, N, C);
        }
        mean_ = Tensor<float>(mean);
        rstd_ = Tensor<float>(rstd);
        scratch_ = Tensor<float>(norm_backward_scratch_floats(N, C));
        bytes = 4.0 * N * C * sizeof(T) + (kLayerNorm ? 8.0 : 4.0) * N;
        flops = 12.0 * N * C;
    }
    void launch(cudaStream_t stream) override { run(true, stream); }
    void check() override {
        std::vector<float> dx = dx_.values(), dw = dw_.values(), db = db_.values();
        std::vector<float> naive_dx = dx, naive_dw = dw, naive_db = db;
        for (const int step : {1, 2}) {  // launch() was the first
            if (step == 2) run(true, nullptr);
            add_reference(dx, dw, db);
            add_reference(naive_dx, naive_dw, naive_db);
            naive_dx = rounded<T>(naive_dx), naive_dw = rounded<G>(naive_dw), naive_db = rounded<G>(naive_db);
            compare(step == 1 ? " +=" : " += again", dx, dw, db, naive_dx, naive_dw, naive_db);
        }
        run(false, nullptr);
        dx.assign(elems(), 0), dw.assign(C, 0), db.assign(C, 0);
        add_reference(dx, dw, db);
        compare(" =", dx, dw, db, rounded<T>(dx), rounded<G>(dw), rounded<G>(db));
    }

private:
    void run(bool add, cudaStream_t stream) {
        const NormBackward<T, G> a{.dx = dx_.get(),
                                   .dw = dw_.get(),
                                   .db = kLayerNorm ? db_.get() : nullptr,
                                   .scratch = scratch_.get(),
                                   .dy = dy_.get(),
                                   .x = x_.get(),
                                   .mean = kLayerNorm ? mean_.get() : nullptr,
                                   .rstd = rstd_.get(),
                                   .w = w_.get(),
                                   .N = N,
                                   .C = C,
                                   .add_dx = add,
                                   .accumulate = add};
        kLayerNorm ? layernorm_backward(a, stream) : rmsnorm_backward(a, stream);
    }
    void add_reference(std::vector<float>& dx, std::vector<float>& dw, std::vector<float>& db) {
        const float *dy = dy_.values().data(), *x = x_.values().data(), *w = w_.values().data();
        const float *mean = mean_.values().data(), *rstd = rstd_.values().data();
        if (kLayerNorm) {
            kiln::layernorm_backward(dx.data(), dw.data(), db.data(), dy, x, mean, rstd, w, N, C, true);
        } else {
            kiln::rmsnorm_backward(dx.data(), dw.data(), dy, x, rstd, w, N, C, true);
        }
    }
    void compare(const std::string& how, const std::vector<float>& dx, const std::vector<float>& dw,
                 const std::vector<float>& db, const std::vector<float>& naive_dx, const std::vector<float>& naive_dw,
                 const std::vector<float>& naive_db) {
        CUDA_CHECK(cudaDeviceSynchronize());
        expect_close("dx" + how, dx_, dx, naive_dx, kTerms);
        expect_close("dw" + how, dw_, dw, naive_dw, kTerms);
        if (kLayerNorm) expect_close("db" + how, db_, db, naive_db, kTerms);
        scratch_.expect_sentinel("scratch");
    }
    Tensor<T> dy_, x_, w_, dx_;
    Tensor<G> dw_, db_;
    Tensor<float> mean_{0}, rstd_{0}, scratch_{0};
};
template <class T>
using RmsNormBackward = NormBackwardCase<T, float, false>;
template <class T>
using LayerNormBackward = NormBackwardCase<T, float, true>;
template <class T>
using RmsNormBackwardSame = NormBackwardCase<T, T, false>;
template <class T>
using LayerNormBackwardSame = NormBackwardCase<T, T, true>;

template <class G>
class SumPartials : public KernelCase {
public:
    explicit SumPartials(const Shape& shape)
        : blocks(dim(shape, "blocks")),
          outs(dim(shape, "outs")),
          C(dim(shape, "C")),
          partials_(random_values(size_t(blocks) * outs * C, 1)),
          out_(random_values(C, 2)),
          out2_(random_values(C, 3)) {
        bytes = 4.0 * blocks * outs * C;
    }
    void launch(cudaStream_t stream) override { run(true, stream); }
    void check() override {
        std::vector<float> out = out_.values(), out2 = out2_.values();
        add(out, out2);
        expect_close("out +=", out_, out, kTerms);
        expect_close("out2 +=", out2_, out2, kTerms);
        run(false, nullptr);
        CUDA_CHECK(cudaDeviceSynchronize());
        std::fill(out.begin(), out.end(), 0.0f);
        if (outs == 2) std::fill(out2.begin(), out2.end(), 0.0f);
        add(out, out2);
        expect_close("out =", out_, out, kTerms);
        expect_close("out2 =", out2_, out2, kTerms);
    }

private:
    void run(bool accumulate, cudaStream_t stream) {
        sum_partials(out_.get(), outs == 2 ? out2_.get() : nullptr, partials_.get(), blocks, C, accumulate, stream);
    }
    void add(std::vector<float>& out, std::vector<float>& out2) {
        for (int c = 0; c < outs * C; ++c) {
            for (int b = 0; b < blocks; ++b) {
                (c < C ? out[c] : out2[c - C]) += partials_.values()[size_t(b) * outs * C + c];
            }
        }
    }
    const int blocks, outs, C;
    Tensor<float> partials_;
    Tensor<G> out_, out2_;
};

}  // namespace

void add_norm_backward_families(std::vector<KernelFamily>& families) {
    // The emulator has two multiprocessors: four blocks of up to 12 teams take two rows at a time, so that 201 rows
    // need several iterations. Teams of one warp, of several, one team in a block, one row at a time, rows cut into
    // slices.
    const std::vector<Shape> small = {
        rows(1, 8), rows(201, 40), rows(71, 264), rows(9, 776), rows(3, 3080), rows(2, 8200),
    };

    families.push_back({"rmsnorm_backward", kAllElements, small, kRealRows, make<RmsNormBackward>});
    families.push_back({"layernorm_backward", kAllElements, small, kRealRows, make<LayerNormBackward>});
    families.push_back({"rmsnorm_backward_same", kNarrowElements, {small[1]}, {}, make<RmsNormBackwardSame>});
    families.push_back({"layernorm_backward_same", kNarrowElements, {small[1]}, {}, make<LayerNormBackwardSame>});
    const std::vector<Shape> sums = {{{"blocks", 1}, {"outs", 1}, {"C", 8}},
                                     {{"blocks", 33}, {"outs", 2}, {"C", 40}},
                                     {{"blocks", 67}, {"outs", 2}, {"C", 24}}};
    families.push_back(
        {"sum_partials", kAllElements, sums, {{{"blocks", 264}, {"outs", 2}, {"C", 768}}}, make<SumPartials>});
}

}  // namespace kiln::test
