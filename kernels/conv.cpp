#include "kernels/conv.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const ConvParams& params) {
    require_grid("conv", params.n, params.grid);
    require_positive("conv", "c_in", params.c_in);
    require_positive("conv", "c_out", params.c_out);
    require(params.kernel == 1 || params.kernel == 3, ErrorKind::internal,
            "[conv] the kernel's side must be 1 or 3, got ", params.kernel);
}

std::span<const ConvVariant> conv_table() {
    static const auto table =
        cuda::with_cuda<ConvVariant>({ref::conv_rows(), cpu::conv_rows()}, &cuda::Rows::conv, &cuda::Rows::vendor_conv);
    return table;
}

std::span<const ConvBackwardDataVariant> conv_backward_data_table() {
    static const auto table = cuda::with_cuda<ConvBackwardDataVariant>(
        {ref::conv_backward_data_rows(), cpu::conv_backward_data_rows()}, &cuda::Rows::conv_backward_data,
        &cuda::Rows::vendor_conv_backward_data);
    return table;
}

std::span<const ConvBackwardWeightVariant> conv_backward_weight_table() {
    static const auto table = cuda::with_cuda<ConvBackwardWeightVariant>(
        {ref::conv_backward_weight_rows(), cpu::conv_backward_weight_rows()}, &cuda::Rows::conv_backward_weight,
        &cuda::Rows::vendor_conv_backward_weight);
    return table;
}

void conv(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& params, Stream& stream) {
    validate(params);
    require_view("conv", "y", y, x.dtype, params.y_count());
    require_view("conv", "x", x, x.dtype, params.x_count());
    require_view("conv", "weight", weight, real_type(x.dtype), params.weight_count());
    require_view("conv", "bias", bias, real_type(x.dtype), params.c_out);
    select("conv", conv_table(), params, x.dtype, stream).run(y, x, weight, bias, params, stream);
}

void conv_backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& params, Stream& stream) {
    validate(params);
    require_view("conv_backward_data", "dx", dx, dy.dtype, params.x_count());
    require_view("conv_backward_data", "dy", dy, dy.dtype, params.y_count());
    require_view("conv_backward_data", "weight", weight, real_type(dy.dtype), params.weight_count());
    select("conv_backward_data", conv_backward_data_table(), params, dy.dtype, stream)
        .run(dx, dy, weight, params, stream);
}

void conv_backward_weight(View dweight, View dbias, ConstView dy, ConstView x, const ConvParams& params,
                          Stream& stream) {
    validate(params);
    require_view("conv_backward_weight", "dweight", dweight, real_type(dy.dtype), params.weight_count());
    require_view("conv_backward_weight", "dbias", dbias, real_type(dy.dtype), params.c_out);
    require_view("conv_backward_weight", "dy", dy, dy.dtype, params.y_count());
    require_view("conv_backward_weight", "x", x, dy.dtype, params.x_count());
    select("conv_backward_weight", conv_backward_weight_table(), params, dy.dtype, stream)
        .run(dweight, dbias, dy, x, params, stream);
}

}  // namespace cover
