#include "kernels/optim.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const OptimizerFactorsParams& params) {
    for (const double beta : {params.beta1, params.beta2})
        require(beta >= 0 && beta < 1, ErrorKind::internal, "[optimizer_factors] a beta is ", beta,
                "; it must lie in [0, 1)");
}
void validate(const AdamParams& params) { require_positive("adam", "count", params.count); }
void validate(const SgdParams& params) { require_positive("sgd", "count", params.count); }

std::span<const OptimizerFactorsVariant> optimizer_factors_table() {
    static const auto table =
        cuda::with_cuda<OptimizerFactorsVariant>({ref::optimizer_factors_rows()}, &cuda::Rows::optimizer_factors);
    return table;
}

std::span<const AdamVariant> adam_table() {
    static const auto table = cuda::with_cuda<AdamVariant>({ref::adam_rows(), cpu::adam_rows()}, &cuda::Rows::adam);
    return table;
}

std::span<const SgdVariant> sgd_table() {
    static const auto table = cuda::with_cuda<SgdVariant>({ref::sgd_rows(), cpu::sgd_rows()}, &cuda::Rows::sgd);
    return table;
}

void optimizer_factors(View factors, ConstView schedule, ConstView loss, ConstView sum_of_squares,
                       const OptimizerFactorsParams& params, Stream& stream) {
    validate(params);
    require_view("optimizer_factors", "factors", factors, DType::float64, optimizer_factor_count);
    require_view("optimizer_factors", "schedule", schedule, DType::float64, 2);
    require_view("optimizer_factors", "loss", loss, loss.dtype, 1);
    require_view("optimizer_factors", "sum_of_squares", sum_of_squares, DType::float64, 1);
    select("optimizer_factors", optimizer_factors_table(), params, loss.dtype, stream)
        .run(factors, schedule, loss, sum_of_squares, params, stream);
}

void adam(View w, View m, View v, ConstView dw, ConstView factors, const AdamParams& params, Stream& stream) {
    validate(params);
    require_view("adam", "w", w, w.dtype, params.count);
    require_view("adam", "m", m, w.dtype, params.count);
    require_view("adam", "v", v, w.dtype, params.count);
    require_view("adam", "dw", dw, w.dtype, params.count);
    require_view("adam", "factors", factors, DType::float64, optimizer_factor_count);
    select("adam", adam_table(), params, w.dtype, stream).run(w, m, v, dw, factors, params, stream);
}

void sgd(View w, View buffer, ConstView dw, ConstView factors, const SgdParams& params, Stream& stream) {
    validate(params);
    require_view("sgd", "w", w, w.dtype, params.count);
    require_view("sgd", "buffer", buffer, w.dtype, params.count);
    require_view("sgd", "dw", dw, w.dtype, params.count);
    require_view("sgd", "factors", factors, DType::float64, optimizer_factor_count);
    select("sgd", sgd_table(), params, w.dtype, stream).run(w, buffer, dw, factors, params, stream);
}

}  // namespace cover
