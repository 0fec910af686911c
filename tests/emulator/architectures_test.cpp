// Every launch of the kernels in cuda/ must be possible on every architecture. Here launches are checked, but only the
// kernels that sm_75 alone needs run.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "cuda/device/attributes.h"
#include "cuda/kernels/kernels.h"
#include "dev/emulator/core/architecture.h"
#include "dev/emulator/core/internal.h"
#include "dev/emulator/core/kernels.h"
#include "tests/cuda/kernel_case.h"
#include "tests/cuda/schedules.h"
#include "tests/emulator/architectures.h"

namespace kiln::test {
namespace {

std::set<std::string>& launched() {
    static std::set<std::string> names;
    return names;
}

class Architectures : public testing::Test {
protected:
    Architectures() {
        launched().clear();
        simt::set_launch_observer([](const simt::Launch& launch) {
            const std::string name = simt::kernel_name(launch.kernel);
            if (!launched().insert(name).second || name.starts_with("test::")) return;
            EXPECT_TRUE(simt::resources_of(launch.kernel)) << name << " is not in dev/bench/kernel_resources.txt";
        });
        simt::set_launch_only(true);
    }
    ~Architectures() override {
        simt::set_launch_only(false);
        simt::set_launch_observer(nullptr);
    }
};

// choose_attention does not take flash attention below sm_80.
bool has_flash(int capability) {
    return capability >= 80;
}

TEST_F(Architectures, launch_every_case_of_every_kernel) {
    for (const KernelFamily& family : kernel_families()) {
        for (const Element element : family.elements) {
            for (const Shape& shape : family.test_shapes) {
                SCOPED_TRACE(family.name + " " + name_of(element) + " " + to_string(shape));
                const auto test_case = family.make(element, shape);
                const auto limit = std::ranges::find(shape, "shared", &Shape::value_type::first);  // in KB
                for_each_architecture([&](int capability) {
                    if (family.name.starts_with("flash") && !has_flash(capability)) return;
                    if (limit != shape.end() && limit->second << 10 > simt::architecture().block_shared) return;
                    ASSERT_NO_THROW(test_case->launch(nullptr));
                });
                if (HasFatalFailure()) return;
            }
        }
    }
}

template <class E>
class Attention {
public:
    // One token of one sequence has the same instances as many tokens have.
    void launch(int HS, bool flash) const {
        const Dropout none;
        attention_forward(out_.get(), lse_.get(), qkv_.get(), none, 1, 1, 1, 1, HS, nullptr);
        attention_backward(dqkv_.get(), BiasGradient<float>{}, lse_.get(), out_.get(), out_.get(), qkv_.get(),
                           lse_.get(), none, 1, 1, 1, 1, HS, nullptr);
        attention_cached(CachedAttention<E>{out_.get(), scratch_.get(), arrivals_.get(), qkv_.get(), out_.get(),
                                            out_.get(), arrivals_.get(), 1, 1, 1, 1, 1, HS},
                         nullptr);
        if constexpr (sizeof(E) == 2) {
            if (flash && flash_attention_has(HS)) launch_flash(HS);
        }
    }

private:
    static constexpr int kMost = 256;

    void launch_flash(int HS) const {
        for (const float p : {0.0f, 0.5f}) {
            const Dropout d{.p = p};
            flash_attention_forward(out_.get(), lse_.get(), qkv_.get(), {}, d, 1, 1, 1, 1, HS, nullptr);
            flash_attention_backward(dqkv_.get(), BiasGradient<float>{}, scratch_.get(), out_.get(), out_.get(),
                                     qkv_.get(), lse_.get(), {}, d, 1, 1, 1, 1, HS, nullptr);
        }
    }

    DeviceBuffer<E> qkv_{3 * kMost}, dqkv_{3 * kMost}, out_{kMost};
    DeviceBuffer<float> lse_{1};
    DeviceBuffer<float> scratch_{
        std::max(attention_cached_scratch_floats(kMost), flash_attention_scratch_floats(1, 1, 1, 1, kMost, false))};
    DeviceBuffer<int> arrivals_{attention_cached_arrivals()};
};

TEST_F(Architectures, launch_attention_of_every_head_size) {
    const Attention<float> of_float32;
    const Attention<__nv_bfloat16> of_bfloat16;
    const Attention<__half> of_float16;
    for_each_architecture([&](int capability) {
        for (int HS = 4; HS <= 256; HS += 4) {
            SCOPED_TRACE(concat("HS=", HS));
            ASSERT_NO_THROW(of_float32.launch(HS, false));
            ASSERT_NO_THROW(of_bfloat16.launch(HS, has_flash(capability)));
            ASSERT_NO_THROW(of_float16.launch(HS, has_flash(capability)));
        }
    });
}

template <class T>
void launch_losses() {
    constexpr int kPack = 16 / sizeof(T), kMostV = 300000;
    const int most_held = max_shared_bytes() / 16;  // packs; above that the launches are alike
    const DeviceBuffer<T> logits(1);
    const DeviceBuffer<float> losses(1);
    const DeviceBuffer<int> targets(1);
    for (int packs = 1; packs * kPack <= kMostV; packs += packs <= most_held ? 1 : 1000) {
        const int V = packs * kPack, Vp = (V + 127) / 128 * 128;
        SCOPED_TRACE(concat("V=", V));
        ASSERT_NO_THROW(cross_entropy(losses.get(), logits.get(), targets.get(), 1, nullptr, 1, V, Vp, nullptr));
    }
}

TEST_F(Architectures, launch_the_loss_of_every_vocabulary) {
    for_each_architecture([](int) {
        launch_losses<float>();
        launch_losses<__nv_bfloat16>();
        launch_losses<__half>();
    });
}

// One block of 1024 threads or two of 512, as the multiprocessor's shared memory has room for rows of GPT-2's logits.
TEST_F(Architectures, the_loss_keeps_a_multiprocessor_busy) {
    static simt::Launch seen;
    simt::set_launch_observer([](const simt::Launch& launch) { seen = launch; });
    for_each_architecture([](int) {
        const DeviceBuffer<__nv_bfloat16> logits(1);
        const DeviceBuffer<float> losses(1);
        const DeviceBuffer<int> targets(1);
        cross_entropy(losses.get(), logits.get(), targets.get(), 1, nullptr, 1, 50257, 50304, nullptr);
        const auto kernel = simt::resources_of(seen.kernel);
        ASSERT_TRUE(kernel.has_value());
        const int threads = int(seen.block.x);
        EXPECT_GE(threads * simt::blocks_of_multiprocessor(*kernel, threads, seen.shared_bytes), 1024);
    });
    simt::set_launch_observer(nullptr);
}

template <class T>
void launch_norms(int C) {
    const DeviceBuffer<float> scratch(1);
    const DeviceBuffer<T> x(1);
    NormBackward<T, T> a{x.get(), x.get(), nullptr, scratch.get(), x.get(), x.get(), nullptr, nullptr,
                         x.get(), 64,      C,       false,         false};
    ASSERT_NO_THROW(rmsnorm_backward(a, nullptr));
    a.db = x.get();
    ASSERT_NO_THROW(layernorm_backward(a, nullptr));
}

TEST_F(Architectures, launch_the_norms_of_every_width) {
    for_each_architecture([](int) {
        for (int C = 8; C <= 16384; C += 8) {
            SCOPED_TRACE(concat("C=", C));
            launch_norms<float>(C);
            launch_norms<__nv_bfloat16>(C);
        }
    });
}

// ---- Kernels that only sm_75 takes, whose blocks have little shared memory.

TEST(OldArchitecture, attention_with_smaller_tiles_matches_reference) {
    const int before = simt::architecture().capability;
    simt::set_architecture(75);
    for (const KernelFamily& family : kernel_families()) {
        if (!family.name.starts_with("attention_")) continue;
        for (const Element element : family.elements) {
            for (const Shape& shape : family.test_shapes) {
                if (dim(shape, "HS") < 96) continue;
                SCOPED_TRACE(family.name + " " + name_of(element) + " " + to_string(shape));
                for_each_schedule([&] {
                    const auto test_case = family.make(element, shape);
                    test_case->launch_and_wait();
                    test_case->check();
                });
            }
        }
    }
    simt::set_architecture(before);
}

}  // namespace
}  // namespace kiln::test
