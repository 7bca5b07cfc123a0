#include "kernels/loss.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const LossParams& params) {
    require_positive("loss", "the batch", params.n);
    require_positive("loss", "pixels", params.pixels);
    require_positive("loss", "channels", params.channels);
}

std::span<const MaskedL1Variant> masked_l1_table() {
    static const auto table =
        cuda::with_cuda<MaskedL1Variant>({ref::masked_l1_rows(), cpu::masked_l1_rows()}, &cuda::Rows::masked_l1);
    return table;
}

std::span<const MaskedL1BackwardVariant> masked_l1_backward_table() {
    static const auto table = cuda::with_cuda<MaskedL1BackwardVariant>(
        {ref::masked_l1_backward_rows(), cpu::masked_l1_backward_rows()}, &cuda::Rows::masked_l1_backward);
    return table;
}

std::span<const MaskedCosineVariant> masked_cosine_table() {
    static const auto table = cuda::with_cuda<MaskedCosineVariant>(
        {ref::masked_cosine_rows(), cpu::masked_cosine_rows()}, &cuda::Rows::masked_cosine);
    return table;
}

std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_table() {
    static const auto table = cuda::with_cuda<MaskedCosineBackwardVariant>(
        {ref::masked_cosine_backward_rows(), cpu::masked_cosine_backward_rows()}, &cuda::Rows::masked_cosine_backward);
    return table;
}

void masked_l1(View loss, ConstView prediction, ConstView target, ConstView mask, const LossParams& params,
               Stream& stream) {
    validate(params);
    const DType dtype = prediction.dtype;
    require_view("masked_l1", "loss", loss, dtype, 1);
    require_view("masked_l1", "prediction", prediction, dtype, params.count());
    require_view("masked_l1", "target", target, dtype, params.count());
    require_view("masked_l1", "mask", mask, dtype, params.mask_count());
    select("masked_l1", masked_l1_table(), params, dtype, stream).run(loss, prediction, target, mask, params, stream);
}

void masked_l1_backward(View dprediction, ConstView dloss, ConstView prediction, ConstView target, ConstView mask,
                        const LossParams& params, Stream& stream) {
    validate(params);
    const DType dtype = prediction.dtype;
    require_view("masked_l1_backward", "dprediction", dprediction, dtype, params.count());
    require_view("masked_l1_backward", "dloss", dloss, dtype, 1);
    require_view("masked_l1_backward", "prediction", prediction, dtype, params.count());
    require_view("masked_l1_backward", "target", target, dtype, params.count());
    require_view("masked_l1_backward", "mask", mask, dtype, params.mask_count());
    select("masked_l1_backward", masked_l1_backward_table(), params, dtype, stream)
        .run(dprediction, dloss, prediction, target, mask, params, stream);
}

void masked_cosine(View loss, ConstView a, ConstView b, ConstView mask, const LossParams& params, Stream& stream) {
    validate(params);
    require_view("masked_cosine", "loss", loss, real_type(a.dtype), 1);
    require_view("masked_cosine", "a", a, a.dtype, params.count());
    require_view("masked_cosine", "b", b, a.dtype, params.count());
    require_view("masked_cosine", "mask", mask, real_type(a.dtype), params.mask_count());
    select("masked_cosine", masked_cosine_table(), params, a.dtype, stream).run(loss, a, b, mask, params, stream);
}

void masked_cosine_backward(View da, View db, ConstView dloss, ConstView a, ConstView b, ConstView mask,
                            const LossParams& params, Stream& stream) {
    validate(params);
    require_view("masked_cosine_backward", "da", da, a.dtype, params.count());
    require_view("masked_cosine_backward", "db", db, a.dtype, params.count());
    require_view("masked_cosine_backward", "dloss", dloss, real_type(a.dtype), 1);
    require_view("masked_cosine_backward", "a", a, a.dtype, params.count());
    require_view("masked_cosine_backward", "b", b, a.dtype, params.count());
    require_view("masked_cosine_backward", "mask", mask, real_type(a.dtype), params.mask_count());
    select("masked_cosine_backward", masked_cosine_backward_table(), params, a.dtype, stream)
        .run(da, db, dloss, a, b, mask, params, stream);
}

}  // namespace cover
