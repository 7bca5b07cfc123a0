#include "kernels/cpu/loss.h"

#include "kernels/cpu/rows.h"
#include "kernels/loss.h"

namespace cover::cpu {
namespace {

Pieces pieces_of(const LossParams& params) {
    return Pieces::of(params.mask_count(), params.channels, task_elements / 2);
}

// Sums of all pieces, in order.
template <class Body>
MaskedSums total(const Pieces& pieces, Stream& stream, const Body& body) {
    Workspace<MaskedSums> sums(pieces.count());
    stream.parallel(pieces.count(),
                    [&](std::int64_t piece) { sums[piece] = body(pieces.begin(piece), pieces.length(piece)); });
    MaskedSums all = {0, 0};
    for (std::int64_t piece = 0; piece < pieces.count(); ++piece) {
        all.terms += sums[piece].terms;
        all.mask += sums[piece].mask;
    }
    return all;
}

double sum_of_mask(const LossKernels& kernels, ConstView mask, const LossParams& params, Stream& stream) {
    return total(Pieces::of(params.mask_count(), 1, task_elements), stream,
                 [&](std::int64_t begin, std::int64_t length) {
                     return MaskedSums{0, kernels.mask_sum(mask.as<float>() + begin, length)};
                 })
        .mask;
}

}  // namespace

void masked_l1(const LossKernels& kernels, View loss, ConstView prediction, ConstView target, ConstView mask,
               const LossParams& params, Stream& stream) {
    const MaskedSums sums = total(pieces_of(params), stream, [&](std::int64_t begin, std::int64_t length) {
        return kernels.l1(prediction.as<float>() + begin * params.channels,
                          target.as<float>() + begin * params.channels, mask.as<float>() + begin, length,
                          params.channels);
    });
    *loss.as<float>() = static_cast<float>(sums.terms / sums.mask);
}

void masked_l1_backward(const LossKernels& kernels, View dprediction, ConstView dloss, ConstView prediction,
                        ConstView target, ConstView mask, const LossParams& params, Stream& stream) {
    const auto weight = static_cast<float>(double{*dloss.as<float>()} / sum_of_mask(kernels, mask, params, stream));
    const Pieces pieces = pieces_of(params);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t begin = pieces.begin(piece), at = begin * params.channels;
        kernels.l1_backward(dprediction.as<float>() + at, prediction.as<float>() + at, target.as<float>() + at,
                            mask.as<float>() + begin, weight, pieces.length(piece), params.channels);
    });
}

void masked_cosine(const LossKernels& kernels, View loss, ConstView a, ConstView b, ConstView mask,
                   const LossParams& params, Stream& stream) {
    const MaskedSums sums = total(pieces_of(params), stream, [&](std::int64_t begin, std::int64_t length) {
        return kernels.cosine(a.as<float>() + begin * params.channels, b.as<float>() + begin * params.channels,
                              mask.as<float>() + begin, length, params.channels);
    });
    *loss.as<float>() = static_cast<float>(1 - sums.terms / sums.mask);
}

void masked_cosine_backward(const LossKernels& kernels, View da, View db, ConstView dloss, ConstView a, ConstView b,
                            ConstView mask, const LossParams& params, Stream& stream) {
    const double weight = -double{*dloss.as<float>()} / sum_of_mask(kernels, mask, params, stream);
    const Pieces pieces = pieces_of(params);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t begin = pieces.begin(piece), at = begin * params.channels;
        kernels.cosine_backward(da.as<float>() + at, db.as<float>() + at, a.as<float>() + at, b.as<float>() + at,
                                mask.as<float>() + begin, weight, pieces.length(piece), params.channels);
    });
}

std::span<const MaskedL1Variant> masked_l1_rows() {
    return simd_rows<MaskedL1Variant, LossParams, MaskedL1Run, masked_l1, avx2::loss_kernels, avx512::loss_kernels>();
}
std::span<const MaskedL1BackwardVariant> masked_l1_backward_rows() {
    return simd_rows<MaskedL1BackwardVariant, LossParams, MaskedL1BackwardRun, masked_l1_backward, avx2::loss_kernels,
                     avx512::loss_kernels>();
}
std::span<const MaskedCosineVariant> masked_cosine_rows() {
    return simd_rows<MaskedCosineVariant, LossParams, MaskedCosineRun, masked_cosine, avx2::loss_kernels,
                     avx512::loss_kernels>();
}
std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_rows() {
    return simd_rows<MaskedCosineBackwardVariant, LossParams, MaskedCosineBackwardRun, masked_cosine_backward,
                     avx2::loss_kernels, avx512::loss_kernels>();
}

}  // namespace cover::cpu
