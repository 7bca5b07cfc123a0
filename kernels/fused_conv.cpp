#include "kernels/fused_conv.h"

#include <algorithm>

#include "kernels/cuda/rows.h"

namespace cover {
namespace {

constexpr const char* family[] = {"fused_conv", "fused_conv_backward_data", "fused_conv_backward_weight"};
// The ops that a fused convolution takes the place of.
constexpr const char* plain_ops[] = {
    "conv", "conv_backward_data", "conv_backward_weight", "group_norm", "max_pool", "upsample", "concat", "split"};

bool names_any(const Stream& stream, std::span<const char* const> ops) {
    return std::ranges::any_of(ops, [&](const char* op) { return wanted_row(op, stream) != nullptr; });
}

// Whether dispatch would take a row of the table by itself, or takes the one that was named. A row that is unproven on
// a device serves there when one of the family was named; one that multiplies exactly is no match for the plain rows of
// a stream that allows TF32, unless it was named.
template <class Params, class Run, class Serves>
bool has_row(const char* op, std::span<const Variant<Params, Run>> table, DType dtype, const Stream& stream,
             const Serves& serves) {
    const bool named = names_any(stream, family);
    const std::string* const wanted = wanted_row(op, stream);
    return std::ranges::any_of(table, [&](const auto& row) {
        return is_candidate(row, wanted, dtype, stream) && (wanted || row.math == stream.math) &&
               (named || stream.device != Device::cuda || row.proven) && serves(row);
    });
}

void require_input(const char* op, const PendingInput& input, const FusedConvParams& params, DType dtype) {
    const DType real = real_type(dtype);
    for (int i = 0; i < 2; ++i) {
        const PendingParams& part = params.parts[i];
        if (part.channels == 0) continue;
        const Pending& views = input.parts[static_cast<std::size_t>(i)];
        require_view(op, "x", views.x, dtype, params.part_count(i));
        if (part.groups == 0) continue;
        require_view(op, "the mean of x", views.mean, real, params.conv.n * part.groups);
        require_view(op, "the rstd of x", views.rstd, real, params.conv.n * part.groups);
        require_view(op, "gamma", views.gamma, real, part.channels);
        require_view(op, "beta", views.beta, real, part.channels);
    }
}

}  // namespace

void validate(const FusedConvParams& params) {
    validate(params.conv);
    const std::int64_t channels = params.parts[0].channels + params.parts[1].channels;
    require(params.parts[0].channels > 0 && channels == params.conv.c_in, ErrorKind::internal, "[fused_conv] parts of ",
            params.parts[0].channels, " and ", params.parts[1].channels, " channels do not make ", params.conv.c_in);
    for (int i = 0; i < 2; ++i) {
        const PendingParams& part = params.parts[i];
        if (part.channels == 0) continue;
        const Grid& g = params.conv.grid;
        require(part.resampling != Resampling::upsample ||
                    (g.h % 2 == 0 && g.w % 2 == 0 && (g.spatial_dims == 2 || g.d % 2 == 0)),
                ErrorKind::internal, "[fused_conv] an up-sampled part has even sides, not ", g.d, ", ", g.h, ", ", g.w);
        if (part.groups > 0) validate(params.part_norm(i));
    }
    if (params.groups > 0) validate(params.statistics());
}

std::span<const FusedConvVariant> fused_conv_table() {
    static const auto table =
        cuda::with_cuda<FusedConvVariant>({ref::fused_conv_rows(), cpu::fused_conv_rows()}, &cuda::Rows::fused_conv);
    return table;
}

std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data_table() {
    static const auto table = cuda::with_cuda<FusedConvBackwardDataVariant>(
        {ref::fused_conv_backward_data_rows(), cpu::fused_conv_backward_data_rows()},
        &cuda::Rows::fused_conv_backward_data);
    return table;
}

std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight_table() {
    static const auto table = cuda::with_cuda<FusedConvBackwardWeightVariant>(
        {ref::fused_conv_backward_weight_rows(), cpu::fused_conv_backward_weight_rows()},
        &cuda::Rows::fused_conv_backward_weight);
    return table;
}

void fused_conv(View y, View mean, View rstd, const PendingInput& input, ConstView weight, ConstView bias,
                const FusedConvParams& params, Stream& stream) {
    validate(params);
    const DType dtype = y.dtype, real = real_type(dtype);
    require_view("fused_conv", "y", y, dtype, params.conv.y_count());
    if (params.groups > 0) {
        require_view("fused_conv", "mean", mean, real, params.conv.n * params.groups);
        require_view("fused_conv", "rstd", rstd, real, params.conv.n * params.groups);
    }
    require_input("fused_conv", input, params, dtype);
    require_view("fused_conv", "weight", weight, real, params.conv.weight_count());
    require_view("fused_conv", "bias", bias, real, params.conv.c_out);
    select("fused_conv", fused_conv_table(), params, dtype, stream)
        .run(y, mean, rstd, input, weight, bias, params, stream);
}

void fused_conv_backward_data(View first, View second, ConstView dy, ConstView weight, const FusedConvParams& params,
                              Stream& stream) {
    validate(params);
    require(params.parts[1].channels > 0, ErrorKind::internal,
            "[fused_conv_backward_data] the gradient of a single part is conv_backward_data's");
    const std::int64_t pixels = params.conv.n * params.conv.grid.pixels();
    require_view("fused_conv_backward_data", "first", first, dy.dtype, pixels * params.parts[0].channels);
    require_view("fused_conv_backward_data", "second", second, dy.dtype, pixels * params.parts[1].channels);
    require_view("fused_conv_backward_data", "dy", dy, dy.dtype, params.conv.y_count());
    require_view("fused_conv_backward_data", "weight", weight, real_type(dy.dtype), params.conv.weight_count());
    select("fused_conv_backward_data", fused_conv_backward_data_table(), params, dy.dtype, stream)
        .run(first, second, dy, weight, params, stream);
}

void fused_conv_backward_weight(View dweight, View dbias, ConstView dy, const PendingInput& input,
                                const FusedConvParams& params, Stream& stream) {
    validate(params);
    const DType dtype = dy.dtype, real = real_type(dtype);
    require_view("fused_conv_backward_weight", "dweight", dweight, real, params.conv.weight_count());
    require_view("fused_conv_backward_weight", "dbias", dbias, real, params.conv.c_out);
    require_view("fused_conv_backward_weight", "dy", dy, dtype, params.conv.y_count());
    require_input("fused_conv_backward_weight", input, params, dtype);
    select("fused_conv_backward_weight", fused_conv_backward_weight_table(), params, dtype, stream)
        .run(dweight, dbias, dy, input, params, stream);
}

bool can_fuse_conv(const FusedConvParams& params, DType dtype, const Stream& stream) {
    const auto serves = [&](const auto& row) { return row.can_run(params, *stream.facts); };
    return fuses_convs(dtype, stream) && has_row("fused_conv", fused_conv_table(), dtype, stream, serves) &&
           (params.parts[1].channels == 0 ||
            has_row("fused_conv_backward_data", fused_conv_backward_data_table(), dtype, stream, serves)) &&
           has_row("fused_conv_backward_weight", fused_conv_backward_weight_table(), dtype, stream, serves);
}

bool fuses_convs(DType dtype, const Stream& stream) {
    const bool named = names_any(stream, family);
    if (named && !stream.fuse)
        fail(ErrorKind::configuration,
             "[fused_conv] a row of it is named, and fusion is off: leave out one, --kernel or COVER_FUSION=off");
    if (!stream.fuse || (!named && names_any(stream, plain_ops))) return false;
    const auto any = [](const auto&) { return true; };
    const bool found = has_row("fused_conv", fused_conv_table(), dtype, stream, any) &&
                       has_row("fused_conv_backward_data", fused_conv_backward_data_table(), dtype, stream, any) &&
                       has_row("fused_conv_backward_weight", fused_conv_backward_weight_table(), dtype, stream, any);
    require(found || !named, ErrorKind::configuration, "[fused_conv] the row that is named does not exist for ",
            name_of(dtype), " on ", name_of(stream.device), "; `cover info` lists them all");
    return found;
}

}  // namespace cover
