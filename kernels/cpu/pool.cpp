#include "kernels/cpu/pool.h"

#include "kernels/cpu/rows.h"
#include "kernels/pool.h"

namespace cover::cpu {
namespace {

// Rows of y over the whole batch, (n, d, h) flattened.
std::int64_t rows_of(const MaxPoolParams& p) {
    return p.n * (p.grid.spatial_dims == 2 ? 1 : p.grid.d / 2) * (p.grid.h / 2);
}

PoolRow row_at(const MaxPoolParams& p, std::int64_t index) {
    const bool volume = p.grid.spatial_dims == 3;
    const std::int64_t line = p.grid.w * p.channels, height = p.grid.h / 2;
    PoolRow row = {{}, volume ? 4 : 2, p.grid.w / 2};
    // index / height is (n, d) of y; two planes of x belong to it in 3D.
    const std::int64_t plane = index / height * (volume ? 2 : 1), h = index % height * 2;
    for (int i = 0; i < row.rows; ++i) row.offsets[i] = ((plane + i / 2) * p.grid.h + h + i % 2) * line;
    return row;
}

template <class Body>
void for_rows(const MaxPoolParams& p, Stream& stream, const Body& body) {
    const Pieces pieces =
        Pieces::of(rows_of(p), p.grid.w * p.channels * (p.grid.spatial_dims == 2 ? 2 : 4), task_elements);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t begin = pieces.begin(piece);
        for (std::int64_t row = begin; row < begin + pieces.length(piece); ++row)
            body(row_at(p, row), row * (p.grid.w / 2) * p.channels);
    });
}

}  // namespace

void max_pool(const PoolKernels& kernels, View y, ConstView x, const MaxPoolParams& params, Stream& stream) {
    for_rows(params, stream, [&](const PoolRow& row, std::int64_t at) {
        kernels.forward(y.as<float>() + at, x.as<float>(), row, params.channels);
    });
}

void max_pool_backward(const PoolKernels& kernels, View dx, ConstView dy, ConstView x, const MaxPoolParams& params,
                       Stream& stream) {
    for_rows(params, stream, [&](const PoolRow& row, std::int64_t at) {
        kernels.backward(dx.as<float>(), dy.as<float>() + at, x.as<float>(), row, params.channels);
    });
}

std::span<const MaxPoolVariant> max_pool_rows() {
    return simd_rows<MaxPoolVariant, MaxPoolParams, MaxPoolRun, max_pool, avx2::pool_kernels, avx512::pool_kernels>();
}
std::span<const MaxPoolBackwardVariant> max_pool_backward_rows() {
    return simd_rows<MaxPoolBackwardVariant, MaxPoolParams, MaxPoolBackwardRun, max_pool_backward, avx2::pool_kernels,
                     avx512::pool_kernels>();
}

}  // namespace cover::cpu
