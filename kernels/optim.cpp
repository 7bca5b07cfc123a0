#include "kernels/optim.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const AdamParams& params) {
    require_positive("adam", "count", params.count);
    require_positive("adam", "step", params.step);
}

void validate(const SgdParams& params) {
    require_positive("sgd", "count", params.count);
    require_positive("sgd", "step", params.step);
}

std::span<const AdamVariant> adam_table() {
    static const auto table = cuda::with_cuda<AdamVariant>({ref::adam_rows(), cpu::adam_rows()}, &cuda::Rows::adam);
    return table;
}

std::span<const SgdVariant> sgd_table() {
    static const auto table = cuda::with_cuda<SgdVariant>({ref::sgd_rows(), cpu::sgd_rows()}, &cuda::Rows::sgd);
    return table;
}

void adam(View w, View m, View v, ConstView dw, const AdamParams& params, Stream& stream) {
    validate(params);
    require_view("adam", "w", w, w.dtype, params.count);
    require_view("adam", "m", m, w.dtype, params.count);
    require_view("adam", "v", v, w.dtype, params.count);
    require_view("adam", "dw", dw, w.dtype, params.count);
    select("adam", adam_table(), params, w.dtype, stream).run(w, m, v, dw, params, stream);
}

void sgd(View w, View buffer, ConstView dw, const SgdParams& params, Stream& stream) {
    validate(params);
    require_view("sgd", "w", w, w.dtype, params.count);
    require_view("sgd", "buffer", buffer, w.dtype, params.count);
    require_view("sgd", "dw", dw, w.dtype, params.count);
    select("sgd", sgd_table(), params, w.dtype, stream).run(w, buffer, dw, params, stream);
}

}  // namespace cover
