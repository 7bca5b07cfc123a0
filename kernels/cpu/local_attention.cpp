#include "kernels/cpu/local_attention.h"

#include "kernels/cpu/rows.h"
#include "kernels/local_attention.h"

namespace cover::cpu {
namespace {

// Tiles keep their planes in the second-level cache, and are high enough that little of what is copied is halo.
AttentionShape shape_of(const LocalAttentionParams& p) {
    const Grid& grid = p.grid;
    const bool volume = grid.spatial_dims == 3;
    return {{grid.d, grid.h, grid.w},
            {std::min<std::int64_t>(grid.d, 4), std::min<std::int64_t>(grid.h, 8), std::min<std::int64_t>(grid.w, 64)},
            grid.spatial_dims,
            p.heads,
            p.head_dim,
            {volume ? p.radius : 0, p.radius, p.radius}};
}

// Calls body(sample, tile, scratch) for every tile of every sample.
template <class Body>
void for_tiles(const LocalAttentionKernels& kernels, const AttentionShape& shape, std::int64_t n, Stream& stream,
               const Body& body) {
    Pieces cuts[3] = {{1, 1}, {1, 1}, {1, 1}};
    std::int64_t tiles = 1;
    for (int a = 0; a < 3; ++a) {
        cuts[a] = {shape.sides[a], shape.tile[a]};
        tiles *= cuts[a].count();
    }
    const std::int64_t floats = kernels.scratch(shape);
    stream.parallel(n * tiles, [&](std::int64_t task) {
        AttentionTile tile = {};
        std::int64_t rest = task;
        for (int a = 2; a >= 0; --a) {
            const std::int64_t at = rest % cuts[a].count();
            tile.begin[a] = cuts[a].begin(at);
            tile.extent[a] = cuts[a].length(at);
            rest /= cuts[a].count();
        }
        Workspace<float> scratch(floats);
        body(rest, tile, scratch.data());
    });
}

}  // namespace

void local_attention(const LocalAttentionKernels& kernels, View y, ConstView q, ConstView k,
                     const LocalAttentionParams& params, Stream& stream) {
    const AttentionShape shape = shape_of(params);
    const std::int64_t size = params.q_count() / params.n, size_y = params.y_count() / params.n;
    for_tiles(kernels, shape, params.n, stream, [&](std::int64_t n, const AttentionTile& tile, float* scratch) {
        kernels.forward(y.as<float>() + n * size_y, q.as<float>() + n * size, k.as<float>() + n * size, shape, tile,
                        scratch);
    });
}

void local_attention_backward(const LocalAttentionKernels& kernels, View dq, View dk, ConstView dy, ConstView q,
                              ConstView k, const LocalAttentionParams& params, Stream& stream) {
    const AttentionShape shape = shape_of(params);
    const std::int64_t size = params.q_count() / params.n, size_y = params.y_count() / params.n;
    const std::int64_t size_statistics = params.grid.pixels() * params.heads * attention_statistics;
    Workspace<float> statistics(params.n * size_statistics);
    for_tiles(kernels, shape, params.n, stream, [&](std::int64_t n, const AttentionTile& tile, float* scratch) {
        kernels.backward_query(dq.as<float>() + n * size, statistics.data() + n * size_statistics,
                               dy.as<float>() + n * size_y, q.as<float>() + n * size, k.as<float>() + n * size, shape,
                               tile, scratch);
    });
    for_tiles(kernels, shape, params.n, stream, [&](std::int64_t n, const AttentionTile& tile, float* scratch) {
        kernels.backward_key(dk.as<float>() + n * size, statistics.data() + n * size_statistics,
                             dy.as<float>() + n * size_y, q.as<float>() + n * size, k.as<float>() + n * size, shape,
                             tile, scratch);
    });
}

std::span<const LocalAttentionVariant> local_attention_rows() {
    return simd_rows<LocalAttentionVariant, LocalAttentionParams, LocalAttentionRun, local_attention,
                     avx2::local_attention_kernels, avx512::local_attention_kernels>();
}
std::span<const LocalAttentionBackwardVariant> local_attention_backward_rows() {
    return simd_rows<LocalAttentionBackwardVariant, LocalAttentionParams, LocalAttentionBackwardRun,
                     local_attention_backward, avx2::local_attention_kernels, avx512::local_attention_kernels>();
}

}  // namespace cover::cpu
