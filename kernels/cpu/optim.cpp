#include "kernels/cpu/optim.h"

#include "kernels/cpu/rows.h"
#include "kernels/optim.h"

namespace cover::cpu {

void adam(const OptimKernels& kernels, View w, View m, View v, ConstView dw, ConstView step_factors,
          const AdamParams& params, Stream& stream) {
    const double* of_step = step_factors.as<double>();
    if (of_step[apply_factor] == 0) return;
    const AdamFactors factors = {.gradient_scale = static_cast<float>(of_step[gradient_scale_factor]),
                                 .weight_decay = static_cast<float>(params.weight_decay),
                                 .beta1 = static_cast<float>(params.beta1),
                                 .one_minus_beta1 = static_cast<float>(1 - params.beta1),
                                 .beta2 = static_cast<float>(params.beta2),
                                 .one_minus_beta2 = static_cast<float>(1 - params.beta2),
                                 .rate = static_cast<float>(of_step[rate_factor]),
                                 .correction = static_cast<float>(of_step[correction_factor]),
                                 .epsilon = static_cast<float>(params.epsilon)};
    const Pieces pieces = Pieces::of(params.count, 4, task_elements);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t at = pieces.begin(piece);
        kernels.adam(w.as<float>() + at, m.as<float>() + at, v.as<float>() + at, dw.as<float>() + at, factors,
                     pieces.length(piece));
    });
}

void sgd(const OptimKernels& kernels, View w, View buffer, ConstView dw, ConstView step_factors,
         const SgdParams& params, Stream& stream) {
    const double* of_step = step_factors.as<double>();
    if (of_step[apply_factor] == 0) return;
    const SgdFactors factors = {.gradient_scale = static_cast<float>(of_step[gradient_scale_factor]),
                                .weight_decay = static_cast<float>(params.weight_decay),
                                .momentum = static_cast<float>(params.momentum),
                                .lr = static_cast<float>(of_step[rate_factor]),
                                .first = of_step[correction_factor] == 1};
    const Pieces pieces = Pieces::of(params.count, 3, task_elements);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t at = pieces.begin(piece);
        kernels.sgd(w.as<float>() + at, buffer.as<float>() + at, dw.as<float>() + at, factors, pieces.length(piece));
    });
}

std::span<const AdamVariant> adam_rows() {
    return simd_rows<AdamVariant, AdamParams, AdamRun, adam, avx2::optim_kernels, avx512::optim_kernels>();
}
std::span<const SgdVariant> sgd_rows() {
    return simd_rows<SgdVariant, SgdParams, SgdRun, sgd, avx2::optim_kernels, avx512::optim_kernels>();
}

}  // namespace cover::cpu
