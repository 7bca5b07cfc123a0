// Vector code of warping, once per instruction set.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct WarpParams;
}  // namespace cover

namespace cover::cpu {

// One sample. Axes are ordered (D, H, W); in 2D the first one is a single pixel that no field component moves.
// A pixel p of an axis reads the source at (p + field) * ratio - shift.
struct WarpGeometry {
    std::int64_t sides[3];
    double ratio[3];
    double shift;
    int spatial_dims;
    std::int64_t channels;
};

struct WarpKernels {
    // Pixels [begin, end) of the sample.
    void (*forward)(float* y, const float* source, const float* field, const WarpGeometry& geometry, std::int64_t begin,
                    std::int64_t end);
    void (*backward_field)(float* dfield, const float* dy, const float* source, const float* field,
                           const WarpGeometry& geometry, std::int64_t begin, std::int64_t end);
    // Overwrites the slab [begin, end) of dsource along the slowest spatial axis with what all pixels of the sample,
    // in their order, contribute to it.
    void (*backward_source)(float* dsource, const float* dy, const float* field, const WarpGeometry& geometry,
                            std::int64_t begin, std::int64_t end);
};

namespace avx2 {
extern const WarpKernels warp_kernels;
}
namespace avx512 {
extern const WarpKernels warp_kernels;
}

void warp(const WarpKernels& kernels, View y, ConstView source, ConstView field, const WarpParams& params,
          Stream& stream);
void warp_backward(const WarpKernels& kernels, View dsource, View dfield, ConstView dy, ConstView source,
                   ConstView field, const WarpParams& params, Stream& stream);

}  // namespace cover::cpu
