#include "kernels/norm.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const GroupNormParams& params) {
    require_positive("group_norm", "the batch", params.n);
    require_positive("group_norm", "pixels", params.pixels);
    require_positive("group_norm", "channels", params.channels);
    require(params.groups >= 1 && params.channels % params.groups == 0, ErrorKind::internal, "[group_norm] ",
            params.groups, " groups do not divide ", params.channels, " channels");
    require(params.epsilon > 0, ErrorKind::internal, "[group_norm] epsilon must be positive, got ", params.epsilon);
    require(params.slope > 0 && params.slope <= 1, ErrorKind::internal,
            "[group_norm] the slope must lie in (0, 1], got ", params.slope);
}

std::span<const GroupNormVariant> group_norm_table() {
    static const auto table =
        cuda::with_cuda<GroupNormVariant>({ref::group_norm_rows(), cpu::group_norm_rows()}, &cuda::Rows::group_norm);
    return table;
}

std::span<const GroupNormStatisticsVariant> group_norm_statistics_table() {
    static const auto table = cuda::with_cuda<GroupNormStatisticsVariant>(
        {ref::group_norm_statistics_rows(), cpu::group_norm_statistics_rows()}, &cuda::Rows::group_norm_statistics);
    return table;
}

std::span<const GroupNormApplyVariant> group_norm_apply_table() {
    static const auto table = cuda::with_cuda<GroupNormApplyVariant>(
        {ref::group_norm_apply_rows(), cpu::group_norm_apply_rows()}, &cuda::Rows::group_norm_apply);
    return table;
}

std::span<const GroupNormBackwardVariant> group_norm_backward_table() {
    static const auto table = cuda::with_cuda<GroupNormBackwardVariant>(
        {ref::group_norm_backward_rows(), cpu::group_norm_backward_rows()}, &cuda::Rows::group_norm_backward);
    return table;
}

void group_norm(View y, View mean, View rstd, ConstView x, ConstView gamma, ConstView beta,
                const GroupNormParams& params, Stream& stream) {
    validate(params);
    require_view("group_norm", "y", y, x.dtype, params.count());
    require_view("group_norm", "mean", mean, real_type(x.dtype), params.n * params.groups);
    require_view("group_norm", "rstd", rstd, real_type(x.dtype), params.n * params.groups);
    require_view("group_norm", "x", x, x.dtype, params.count());
    require_view("group_norm", "gamma", gamma, real_type(x.dtype), params.channels);
    require_view("group_norm", "beta", beta, real_type(x.dtype), params.channels);
    select("group_norm", group_norm_table(), params, x.dtype, stream)
        .run(y, mean, rstd, x, gamma, beta, params, stream);
}

void group_norm_statistics(View mean, View rstd, ConstView x, const GroupNormParams& params, Stream& stream) {
    validate(params);
    require_view("group_norm_statistics", "mean", mean, real_type(x.dtype), params.n * params.groups);
    require_view("group_norm_statistics", "rstd", rstd, real_type(x.dtype), params.n * params.groups);
    require_view("group_norm_statistics", "x", x, x.dtype, params.count());
    select("group_norm_statistics", group_norm_statistics_table(), params, x.dtype, stream)
        .run(mean, rstd, x, params, stream);
}

void group_norm_apply(View y, ConstView x, ConstView mean, ConstView rstd, ConstView gamma, ConstView beta,
                      const GroupNormParams& params, Stream& stream) {
    validate(params);
    require_view("group_norm_apply", "y", y, x.dtype, params.count());
    require_view("group_norm_apply", "x", x, x.dtype, params.count());
    require_view("group_norm_apply", "mean", mean, real_type(x.dtype), params.n * params.groups);
    require_view("group_norm_apply", "rstd", rstd, real_type(x.dtype), params.n * params.groups);
    require_view("group_norm_apply", "gamma", gamma, real_type(x.dtype), params.channels);
    require_view("group_norm_apply", "beta", beta, real_type(x.dtype), params.channels);
    select("group_norm_apply", group_norm_apply_table(), params, x.dtype, stream)
        .run(y, x, mean, rstd, gamma, beta, params, stream);
}

void group_norm_backward(View dx, View dgamma, View dbeta, ConstView dy, ConstView x, ConstView mean, ConstView rstd,
                         ConstView gamma, ConstView beta, const GroupNormParams& params, Stream& stream) {
    validate(params);
    require_view("group_norm_backward", "dx", dx, x.dtype, params.count());
    require_view("group_norm_backward", "dgamma", dgamma, real_type(x.dtype), params.channels);
    require_view("group_norm_backward", "dbeta", dbeta, real_type(x.dtype), params.channels);
    require_view("group_norm_backward", "dy", dy, x.dtype, params.count());
    require_view("group_norm_backward", "x", x, x.dtype, params.count());
    require_view("group_norm_backward", "mean", mean, real_type(x.dtype), params.n * params.groups);
    require_view("group_norm_backward", "rstd", rstd, real_type(x.dtype), params.n * params.groups);
    require_view("group_norm_backward", "gamma", gamma, real_type(x.dtype), params.channels);
    require_view("group_norm_backward", "beta", beta, real_type(x.dtype), params.channels);
    select("group_norm_backward", group_norm_backward_table(), params, x.dtype, stream)
        .run(dx, dgamma, dbeta, dy, x, mean, rstd, gamma, beta, params, stream);
}

}  // namespace cover
