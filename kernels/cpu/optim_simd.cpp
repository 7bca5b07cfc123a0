#include "kernels/cpu/optim.h"
#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

void adam(float* w, float* m, float* v, const float* dw, AdamFactors f, std::int64_t count) {
    for_channels(count, [=]<int L>(std::int64_t i) {
        const Float<L> weight = load<L>(w + i);
        const Float<L> g = load<L>(dw + i) * f.gradient_scale + weight * f.weight_decay;
        const Float<L> first = load<L>(m + i) * f.beta1 + g * f.one_minus_beta1;
        const Float<L> second = load<L>(v + i) * f.beta2 + (g * g) * f.one_minus_beta2;
        store<L>(m + i, first);
        store<L>(v + i, second);
        store<L>(w + i, weight - first * f.rate / (square_root<L>(second * f.correction) + f.epsilon));
    });
}

void sgd(float* w, float* buffer, const float* dw, SgdFactors f, std::int64_t count) {
    for_channels(count, [=]<int L>(std::int64_t i) {
        const Float<L> weight = load<L>(w + i);
        Float<L> step = load<L>(dw + i) * f.gradient_scale + weight * f.weight_decay;
        if (!f.first) step += load<L>(buffer + i) * f.momentum;
        store<L>(buffer + i, step);
        store<L>(w + i, weight - step * f.lr);
    });
}

}  // namespace

extern const OptimKernels optim_kernels;
const OptimKernels optim_kernels = {adam, sgd};

}  // namespace cover::cpu::COVER_ISA
