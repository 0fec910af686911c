// Cases of cuda/kernels/bias.cu.
#include "cuda/kernels/kernels.h"
#include "tests/cuda/cases/cases.h"
#include "tests/cuda/cases/rows.h"

namespace kiln::test {
namespace {

template <class T, class G>
class BiasBackward : public KernelCase {
public:
    explicit BiasBackward(const Shape& shape)
        : N(dim(shape, "N")),
          O(dim(shape, "O")),
          accumulate_(dim(shape, "accumulate")),
          dout_(random_values(size_t(N) * O, 1)),
          db_(random_values(O, 2)),
          scratch_(bias_backward_scratch_floats(N, O)) {
        bytes = double(N) * O * sizeof(T);
    }
    void launch(cudaStream_t stream) override {
        bias_backward(db_.get(), scratch_.get(), dout_.get(), N, O, accumulate_, stream);
    }
    void check() override {
        std::vector<float> db = db_.values();
        compare(db);
        launch_and_wait();
        compare(db);
    }

private:
    // Takes db before the launch; compares it after the launch and returns that.
    void compare(std::vector<float>& db) {
        db = bias_gradient(accumulate_ ? db : std::vector<float>(O), dout_.values());
        // A sum of N terms below 1 may have intermediate values far above the result: sqrt(N) roundings at most.
        expect_close("db", db_, db, 16);
        scratch_.expect_sentinel("scratch");
        db = db_.read();
    }
    const int N, O;
    const bool accumulate_;
    Tensor<T> dout_;
    Tensor<G> db_;
    Tensor<float> scratch_;
};

template <class T>
using BiasBackwardToFloat = BiasBackward<T, float>;
template <class T>
using BiasBackwardToSame = BiasBackward<T, T>;

}  // namespace

void add_bias_families(std::vector<KernelFamily>& families) {
    const auto shape = [](int N, int O, int accumulate) {
        return Shape{{"N", N}, {"O", O}, {"accumulate", accumulate}};
    };
    const std::vector<Shape> small = {shape(1, 8, 0),   shape(1, 8, 1),  shape(33, 264, 1),
                                      shape(95, 40, 0), shape(70, 8, 1), shape(300, 136, 1)};
    const std::vector<Shape> real = {shape(65536, 768, 1), shape(65536, 2304, 1), shape(65536, 3072, 1),
                                     shape(16384, 6400, 1), shape(16384, 3584, 1)};
    families.push_back({"bias_backward", kAllElements, small, real, make<BiasBackwardToSame>});
    families.push_back({"bias_backward_float_gradient", kNarrowElements, small, real, make<BiasBackwardToFloat>});
}

}  // namespace kiln::test
