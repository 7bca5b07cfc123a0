#include "kernels/cpu/pool.h"
#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

template <int rows>
void forward_row(float* y, const float* x, const PoolRow& row, std::int64_t channels) {
    for (std::int64_t w = 0; w < row.width; ++w) {
        for_channels(channels, [&]<int L>(std::int64_t c) {
            Float<L> best = load<L>(x + row.offsets[0] + 2 * w * channels + c);
            for (int i = 1; i < 2 * rows; ++i) {
                const Float<L> v = load<L>(x + row.offsets[i / 2] + (2 * w + i % 2) * channels + c);
                best = v > best ? v : best;
            }
            store<L>(y + w * channels + c, best);
        });
    }
}

// The first largest value in memory order wins, as in the forward pass.
template <int rows>
void backward_row(float* dx, const float* dy, const float* x, const PoolRow& row, std::int64_t channels) {
    for (std::int64_t w = 0; w < row.width; ++w) {
        for_channels(channels, [&]<int L>(std::int64_t c) {
            const Float<L> g = load<L>(dy + w * channels + c);
            Float<L> best = load<L>(x + row.offsets[0] + 2 * w * channels + c);
            Int<L> winner{};
            for (int i = 1; i < 2 * rows; ++i) {
                const Float<L> v = load<L>(x + row.offsets[i / 2] + (2 * w + i % 2) * channels + c);
                const Int<L> larger = v > best;
                best = larger ? v : best;
                winner = larger ? Int<L>{} + i : winner;
            }
            for (int i = 0; i < 2 * rows; ++i)
                store<L>(dx + row.offsets[i / 2] + (2 * w + i % 2) * channels + c, winner == i ? g : Float<L>{});
        });
    }
}

void forward(float* y, const float* x, PoolRow row, std::int64_t channels) {
    if (row.rows == 2)
        forward_row<2>(y, x, row, channels);
    else
        forward_row<4>(y, x, row, channels);
}

void backward(float* dx, const float* dy, const float* x, PoolRow row, std::int64_t channels) {
    if (row.rows == 2)
        backward_row<2>(dx, dy, x, row, channels);
    else
        backward_row<4>(dx, dy, x, row, channels);
}

}  // namespace

extern const PoolKernels pool_kernels;
const PoolKernels pool_kernels = {forward, backward};

}  // namespace cover::cpu::COVER_ISA
