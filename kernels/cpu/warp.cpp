#include "kernels/cpu/warp.h"

#include "kernels/cpu/rows.h"
#include "kernels/warp.h"

namespace cover::cpu {
namespace {

WarpGeometry geometry_of(const WarpParams& p) {
    WarpGeometry g = {{p.grid.d, p.grid.h, p.grid.w}, {1, 1, 1}, 0, p.grid.spatial_dims, p.channels};
    if (p.convention == WarpConvention::reference) {
        g.shift = 0.5;
        for (int a = 0; a < 3; ++a)
            if (g.sides[a] > 1) g.ratio[a] = static_cast<double>(g.sides[a]) / static_cast<double>(g.sides[a] - 1);
    }
    return g;
}

// Calls body(sample, begin, end) for pieces of the pixels of every sample.
template <class Body>
void for_pixel_pieces(const WarpParams& p, Stream& stream, const Body& body) {
    const Pieces pieces = Pieces::of(p.grid.pixels(), p.channels + 8, task_elements);
    stream.parallel(p.n * pieces.count(), [&](std::int64_t task) {
        const std::int64_t piece = task % pieces.count(), begin = pieces.begin(piece);
        body(task / pieces.count(), begin, begin + pieces.length(piece));
    });
}

// Slabs of dsource per sample: a few tasks in all, since every one of them looks at all pixels of its sample.
Pieces slabs_of(const WarpParams& p) {
    const std::int64_t side = p.grid.spatial_dims == 2 ? p.grid.h : p.grid.d;
    const std::int64_t slabs = std::clamp<std::int64_t>(8 / p.n, 1, side);
    return {side, (side + slabs - 1) / slabs};
}

}  // namespace

void warp(const WarpKernels& kernels, View y, ConstView source, ConstView field, const WarpParams& params,
          Stream& stream) {
    const WarpGeometry geometry = geometry_of(params);
    const std::int64_t pixels = params.grid.pixels(), size = pixels * params.channels, nd = geometry.spatial_dims;
    for_pixel_pieces(params, stream, [&](std::int64_t n, std::int64_t begin, std::int64_t end) {
        kernels.forward(y.as<float>() + n * size, source.as<float>() + n * size, field.as<float>() + n * pixels * nd,
                        geometry, begin, end);
    });
}

void warp_backward(const WarpKernels& kernels, View dsource, View dfield, ConstView dy, ConstView source,
                   ConstView field, const WarpParams& params, Stream& stream) {
    const WarpGeometry geometry = geometry_of(params);
    const std::int64_t pixels = params.grid.pixels(), size = pixels * params.channels, nd = geometry.spatial_dims;
    if (dfield) {
        for_pixel_pieces(params, stream, [&](std::int64_t n, std::int64_t begin, std::int64_t end) {
            kernels.backward_field(dfield.as<float>() + n * pixels * nd, dy.as<float>() + n * size,
                                   source.as<float>() + n * size, field.as<float>() + n * pixels * nd, geometry, begin,
                                   end);
        });
    }
    if (dsource) {
        const Pieces slabs = slabs_of(params);
        stream.parallel(params.n * slabs.count(), [&](std::int64_t task) {
            const std::int64_t n = task / slabs.count(), slab = task % slabs.count(), begin = slabs.begin(slab);
            kernels.backward_source(dsource.as<float>() + n * size, dy.as<float>() + n * size,
                                    field.as<float>() + n * pixels * nd, geometry, begin, begin + slabs.length(slab));
        });
    }
}

std::span<const WarpVariant> warp_rows() {
    return simd_rows<WarpVariant, WarpParams, WarpRun, warp, avx2::warp_kernels, avx512::warp_kernels>();
}
std::span<const WarpBackwardVariant> warp_backward_rows() {
    return simd_rows<WarpBackwardVariant, WarpParams, WarpBackwardRun, warp_backward, avx2::warp_kernels,
                     avx512::warp_kernels>();
}

}  // namespace cover::cpu
