// The fused convolution as what it stands for: the reference rows of the plain ops, one after another.
#include "kernels/fused_conv.h"

#include <cstring>

#include "core/tensor.h"
#include "kernels/elementwise.h"
#include "kernels/pool.h"
#include "kernels/resize.h"

namespace cover::ref {
namespace {

template <class Row>
const Row& row_of(std::span<const Row> rows, DType dtype) {
    for (const Row& row : rows)
        if (row.dtype == dtype) return row;
    fail(ErrorKind::internal, text("[ref] a plain op has no reference row of ", name_of(dtype)));
}

// (N, D, H, W, channels) of one part, as the plain ops would have stored it.
Tensor part_value(const Pending& part, const FusedConvParams& p, int index, DType dtype, Stream& stream) {
    const PendingParams& pending = p.parts[index];
    const Grid grid = p.part_grid(index);
    Tensor x = Tensor::empty({p.part_count(index)}, dtype);
    if (pending.groups > 0)
        row_of(group_norm_apply_rows(), dtype)
            .run(x.view(), part.x, part.mean, part.rstd, part.gamma, part.beta, p.part_norm(index), stream);
    else
        std::memcpy(x.view().data, part.x.data, x.bytes());
    if (pending.resampling == Resampling::none) return x;
    Tensor y = Tensor::empty({p.conv.n * p.conv.grid.pixels() * pending.channels}, dtype);
    if (pending.resampling == Resampling::max_pool)
        row_of(max_pool_rows(), dtype).run(y.view(), x.view(), {p.conv.n, grid, pending.channels}, stream);
    else
        row_of(upsample_rows(), dtype).run(y.view(), x.view(), {p.conv.n, grid, pending.channels, false, 1.0}, stream);
    return y;
}

Tensor input_value(const PendingInput& input, const FusedConvParams& p, DType dtype, Stream& stream) {
    Tensor first = part_value(input.parts[0], p, 0, dtype, stream);
    if (p.parts[1].channels == 0) return first;
    const Tensor second = part_value(input.parts[1], p, 1, dtype, stream);
    Tensor joined = Tensor::empty({p.conv.x_count()}, dtype);
    row_of(concat_rows(), dtype)
        .run(joined.view(), first.view(), second.view(),
             {p.conv.n * p.conv.grid.pixels(), p.parts[0].channels, p.parts[1].channels}, stream);
    return joined;
}

void forward(View y, View mean, View rstd, const PendingInput& input, ConstView weight, ConstView bias,
             const FusedConvParams& p, Stream& stream) {
    const Tensor x = input_value(input, p, y.dtype, stream);
    row_of(conv_rows(), y.dtype).run(y, x.view(), weight, bias, p.conv, stream);
    if (p.groups > 0) row_of(group_norm_statistics_rows(), y.dtype).run(mean, rstd, y, p.statistics(), stream);
}

void backward_data(View first, View second, ConstView dy, ConstView weight, const FusedConvParams& p, Stream& stream) {
    Tensor joined = Tensor::empty({p.conv.x_count()}, dy.dtype);
    row_of(conv_backward_data_rows(), dy.dtype).run(joined.view(), dy, weight, p.conv, stream);
    row_of(split_rows(), dy.dtype)
        .run(first, second, joined.view(), {p.conv.n * p.conv.grid.pixels(), p.parts[0].channels, p.parts[1].channels},
             stream);
}

void backward_weight(View dweight, View dbias, ConstView dy, const PendingInput& input, const FusedConvParams& p,
                     Stream& stream) {
    const Tensor x = input_value(input, p, dy.dtype, stream);
    row_of(conv_backward_weight_rows(), dy.dtype).run(dweight, dbias, dy, x.view(), p.conv, stream);
}

}  // namespace

std::span<const FusedConvVariant> fused_conv_rows() {
    static constexpr FusedConvVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<FusedConvParams>, forward},
        {"ref", Device::cpu, DType::float64, Math::exact, always<FusedConvParams>, forward}};
    return rows;
}

std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_rows() {
    static constexpr FusedConvBackwardDataVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, has_two_parts, backward_data},
        {"ref", Device::cpu, DType::float64, Math::exact, has_two_parts, backward_data}};
    return rows;
}

std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_rows() {
    static constexpr FusedConvBackwardWeightVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<FusedConvParams>, backward_weight},
        {"ref", Device::cpu, DType::float64, Math::exact, always<FusedConvParams>, backward_weight}};
    return rows;
}

}  // namespace cover::ref
