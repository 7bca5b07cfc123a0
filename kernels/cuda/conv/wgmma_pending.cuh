// What rung 6 does to its pixels where something is still pending on them (kernels/fused_conv.h): between the copy into
// a stage and the products, warps of their own leave in the stage what the plain ops would have stored, bit for bit.
//
// Where nothing is resampled the TMA brings the raw pixels and they are changed in place; otherwise the warps read the
// part from global memory. A stage holds boxes: a block's 10 x 10 pixels with their halo, and `depth` channels in rows
// of 128 or 64 bytes, swizzled. A box is cut into units, each the work of one warp; a lane keeps its eight channels.
#pragma once

#include "kernels/cuda/conv/unit_moments.cuh"
#include "kernels/cuda/conv/wgmma.cuh"
#include "kernels/fused_conv.h"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

struct WgmmaPart {
    const std::uint16_t* x;
    const float *mean, *rstd, *gamma, *beta;
    int channels, groups, group_channels;  // groups 0: no group norm is pending
    float slope;
    Resampling resampling;
    int d, h, w;  // of x

    __host__ __device__ bool by_copy() const { return resampling == Resampling::none; }
};

struct WgmmaInput {
    WgmmaPart parts[2];
    int split;  // channels of the first
};

// Where a box lies in the image of the convolution: plane d of sample n, from (h, w) on, which is outside where the
// block of pixels begins at an edge. A plane outside of the image is all zeros.
struct BoxPlace {
    int n, d, h, w;
    bool inside;
};
template <class Shape>
__device__ BoxPlace box_place(const Shape& s, int block, int kd) {
    const int w = block % s.across * 8 - 1, line = block / s.across, h = line % s.down * 8 - 1, plane = line / s.down,
              d = plane % s.d - s.kernel_depth / 2 + kd, n = plane / s.d;
    return {n, d, h, w, block < s.pixel_blocks && d >= 0 && d < s.d};
}
template <class Shape>
__device__ bool is_inside(const Shape& s, int h, int w) {
    return static_cast<unsigned>(h) < static_cast<unsigned>(s.h) &&
           static_cast<unsigned>(w) < static_cast<unsigned>(s.w);
}

inline constexpr int box_pixels = 100;
// Up-sampling: a box reads 6 x 6 pixels of the part. A warp keeps them, already blended along D, in float32: two halves
// of eight channels, pixels, and two pieces of eight channels.
inline constexpr int coarse_side = 6, coarse_pixels = coarse_side * coarse_side, coarse_pieces = 2;
inline constexpr int coarse_bytes = 2 * coarse_pixels * coarse_pieces * 16;

// How many units a box is cut into: of 32 channels' worth of pixels, or of 16 channels.
template <int depth>
__host__ __device__ constexpr int units_of_box(Resampling resampling) {
    return resampling == Resampling::upsample ? depth / 16 : depth / 32;
}

#if COVER_SM90A

// Where piece `piece` (eight channels) of a pixel lies in its box, as the TMA swizzles it: a box starts at a multiple
// of 1,024 bytes.
template <int depth>
__device__ int piece_offset(int pixel, int piece) {
    constexpr int row_bytes = 2 * depth, pieces = depth / 8;
    return pixel * row_bytes + (piece ^ (pixel * row_bytes / 128 % pieces)) * 16;
}

__device__ inline void unpack(float (&to)[8], const uint4& piece) {
    const unsigned words[4] = {piece.x, piece.y, piece.z, piece.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) {
        to[2 * k] = __uint_as_float(words[k] << 16);
        to[2 * k + 1] = __uint_as_float(words[k] & 0xffff0000u);
    }
}
__device__ inline uint4 round_piece(const float (&from)[8]) {
    using hopper::round_pair;
    return {round_pair(from[0], from[1]), round_pair(from[2], from[3]), round_pair(from[4], from[5]),
            round_pair(from[6], from[7])};
}
__device__ inline uint4 load_piece(const std::uint16_t* from) { return __ldg(reinterpret_cast<const uint4*>(from)); }

// Group norm and activation of eight channels of one group, by the roundings of Channels in norm.cu. The larger of z
// and z * slope is what is chosen there, because 0 < slope <= 1. Where none is pending values stay as they are.
struct Activation {
    float mean, rstd, slope, gamma[8], beta[8];

    __device__ void apply(float (&x)[8]) const {
#pragma unroll
        for (int k = 0; k < 8; ++k) {
            const float z = fmaf(__fmul_rn(__fsub_rn(x[k], mean), rstd), gamma[k], beta[k]);
            x[k] = fmaxf(z, __fmul_rn(z, slope));
        }
    }
};
__device__ inline Activation activation_of(const WgmmaPart& part, int n, int c) {
    Activation of{0, 1, 1, {1, 1, 1, 1, 1, 1, 1, 1}, {}};
    if (part.groups == 0) return of;
    const int group = n * part.groups + c / part.group_channels;
    of.mean = __ldg(part.mean + group);
    of.rstd = __ldg(part.rstd + group);
    of.slope = part.slope;
#pragma unroll
    for (int k = 0; k < 8; k += 2) {
        const float2 gamma = __ldg(reinterpret_cast<const float2*>(part.gamma + c + k)),
                     beta = __ldg(reinterpret_cast<const float2*>(part.beta + c + k));
        of.gamma[k] = gamma.x;
        of.gamma[k + 1] = gamma.y;
        of.beta[k] = beta.x;
        of.beta[k + 1] = beta.y;
    }
    return of;
}

// In what follows `skipped` says how many of the box's first rows are not there: 0, or 1 for weight gradients.

// Of the pixels of one unit: calls use(piece's place in the box, row and column of the pixel in the image).
template <int depth, int skipped, class Use>
__device__ void for_pixels(unsigned char* box, int unit, const BoxPlace& at, const Use& use) {
    constexpr int pieces = depth / 8, step = 32 / pieces, count = (box_pixels - 10 * skipped) * 32 / depth;
    const int lane = static_cast<int>(threadIdx.x) % 32, piece = lane % pieces;
#pragma unroll 1
    for (int i = lane / pieces; i < count; i += step) {
        const int pixel = unit * count + i, row = pixel / 10;
        use(reinterpret_cast<uint4*>(box + piece_offset<depth>(pixel, piece)), at.h + skipped + row,
            at.w + pixel - 10 * row);
    }
}

// In place; what lies outside of the image are the zeros of the TMA.
template <int depth, int skipped, class Shape>
__device__ void activate_unit(unsigned char* box, int unit, const Activation& f, const BoxPlace& at, const Shape& s) {
    for_pixels<depth, skipped>(box, unit, at, [&](uint4* place, int h, int w) {
        if (!is_inside(s, h, w)) return;
        float x[8];
        unpack(x, *place);
        f.apply(x);
        *place = round_piece(x);
    });
}

// c: the lane's first channel. The largest of the values before their rounding is the largest of them after it.
template <int depth, int skipped, class Shape>
__device__ void pool_unit(unsigned char* box, int unit, const Activation& f, const WgmmaPart& part, int c,
                          const BoxPlace& at, const Shape& s) {
    const int planes = s.kernel_depth > 1 ? 2 : 1;
    const std::int64_t line = static_cast<std::int64_t>(part.w) * part.channels, plane = part.h * line;
    const std::uint16_t* const from = part.x + (static_cast<std::int64_t>(at.n) * part.d + planes * at.d) * plane + c;
    for_pixels<depth, skipped>(box, unit, at, [&](uint4* place, int h, int w) {
        if (!at.inside || !is_inside(s, h, w)) {
            *place = uint4{};
            return;
        }
        const std::uint16_t* window = from + 2 * h * line + static_cast<std::int64_t>(2 * w) * part.channels;
        float best[8];
#pragma unroll 1
        for (int i = 0; i < planes; ++i, window += plane) {
            const uint4 raw[4] = {load_piece(window), load_piece(window + part.channels), load_piece(window + line),
                                  load_piece(window + line + part.channels)};
#pragma unroll
            for (int q = 0; q < 4; ++q) {
                float x[8];
                unpack(x, raw[q]);
                f.apply(x);
#pragma unroll
                for (int k = 0; k < 8; ++k)
                    if ((i == 0 && q == 0) || x[k] > best[k]) best[k] = x[k];
            }
        }
        *place = round_piece(best);
    });
}

__device__ inline int clamped_to(int at, int side) { return at < 0 ? 0 : at < side ? at : side - 1; }

// Weights of inputs p and p + 1 for outputs 2 p + 1 and 2 p + 2, as in resize.cu without aligned corners.
struct BlendPair {
    float left[2], right[2];
};
__device__ inline BlendPair blend_pair(int p, int side) {
    if (p < 0 || p + 1 >= side) return {{0.5f, 0.5f}, {0.5f, 0.5f}};
    return {{0.75f, 0.25f}, {0.25f, 0.75f}};
}

// c: the first channel of the box. Along D, then W, then H, by the roundings of resize.cu.
template <int depth, int skipped, class Shape>
__device__ void upsample_unit(unsigned char* box, float4* coarse, int unit, const WgmmaPart& part, int c,
                              const BoxPlace& at, const Shape& s) {
    const int lane = static_cast<int>(threadIdx.x) % 32, piece = coarse_pieces * unit + lane % coarse_pieces;
    const int first_h = (at.h + 1) / 2 - 1, first_w = (at.w + 1) / 2 - 1;
    warp_sync();  // the unit before has been read
    if (at.inside) {
        const Activation f = activation_of(part, at.n, c + 8 * piece);
        const bool deep = s.kernel_depth > 1;
        const int pd = (at.d + 1) / 2 - 1, second = 1 - at.d % 2;
        const BlendPair in_d = blend_pair(pd, part.d);
        const float left_d = second ? in_d.left[1] : in_d.left[0], right_d = second ? in_d.right[1] : in_d.right[0];
        const std::int64_t line = static_cast<std::int64_t>(part.w) * part.channels, plane = part.h * line;
        const std::uint16_t* const from = part.x + static_cast<std::int64_t>(at.n) * part.d * plane + c + 8 * piece;
#pragma unroll 1
        for (int i = lane; i < coarse_pixels * coarse_pieces; i += 32) {
            const int pixel = i / coarse_pieces, row = pixel / coarse_side, column = pixel - coarse_side * row;
            const std::uint16_t* const pixels =
                from + clamped_to(first_h + row, part.h) * line +
                static_cast<std::int64_t>(clamped_to(first_w + column, part.w)) * part.channels;
            float x[8];
            const auto read = [&](float(&values)[8], const std::uint16_t* pack) {
                unpack(values, load_piece(pack));
                f.apply(values);
                unpack(values, round_piece(values));
            };
            if (deep) {
                float y[8];
                read(x, pixels + clamped_to(pd, part.d) * plane);
                read(y, pixels + clamped_to(pd + 1, part.d) * plane);
#pragma unroll
                for (int k = 0; k < 8; ++k) x[k] = fmaf(right_d, y[k], __fmul_rn(left_d, x[k]));
            } else {
                read(x, pixels);
            }
            coarse[i] = float4{x[0], x[1], x[2], x[3]};
            coarse[i + coarse_pixels * coarse_pieces] = float4{x[4], x[5], x[6], x[7]};
        }
    }
    warp_sync();
    // Two rows and columns of the box from two of the coarse ones.
#pragma unroll 1
    for (int i = lane; i < box_pixels / 4 * coarse_pieces; i += 32) {
        const int quad = i / coarse_pieces, a = quad / 5, b = quad - 5 * a;
        const BlendPair in_h = blend_pair(first_h + a, part.h), in_w = blend_pair(first_w + b, part.w);
        const float4* corner = coarse + (coarse_side * a + b) * coarse_pieces + lane % coarse_pieces;
#pragma unroll 1
        for (int half = 0; half < 2; ++half, corner += coarse_pixels * coarse_pieces) {
            float values[2][2][4];
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const float4 four = corner[(e / 2 * coarse_side + e % 2) * coarse_pieces];
                values[e / 2][e % 2][0] = four.x;
                values[e / 2][e % 2][1] = four.y;
                values[e / 2][e % 2][2] = four.z;
                values[e / 2][e % 2][3] = four.w;
            }
#pragma unroll
            for (int k = 0; k < 2; ++k) {
                float lines[2][4];
#pragma unroll
                for (int l = 0; l < 2; ++l)
#pragma unroll
                    for (int q = 0; q < 4; ++q)
                        lines[l][q] = fmaf(in_w.right[k], values[l][1][q], __fmul_rn(in_w.left[k], values[l][0][q]));
#pragma unroll
                for (int l = 0; l < 2; ++l) {
                    const int row = 2 * a + l, column = 2 * b + k;
                    float y[4];
#pragma unroll
                    for (int q = 0; q < 4; ++q)
                        y[q] = fmaf(in_h.right[l], lines[1][q], __fmul_rn(in_h.left[l], lines[0][q]));
                    if (row < skipped) continue;
                    const bool inside = at.inside && is_inside(s, at.h + row, at.w + column);
                    const uint2 rounded = {hopper::round_pair(y[0], y[1]), hopper::round_pair(y[2], y[3])};
                    *reinterpret_cast<uint2*>(box + piece_offset<depth>(10 * (row - skipped) + column, piece) +
                                              8 * half) = inside ? rounded : uint2{};
                }
            }
        }
    }
}

// One unit of the box at `at`, of the part's channels from c on.
template <int depth, int skipped, class Shape>
__device__ void prepare_unit(unsigned char* box, float4* coarse, int unit, const WgmmaPart& part, int c,
                             const BoxPlace& at, const Shape& s) {
    if (part.resampling == Resampling::upsample) {
        upsample_unit<depth, skipped>(box, coarse, unit, part, c, at, s);
        return;
    }
    if (part.by_copy() && (part.groups == 0 || !at.inside)) return;
    const int own = c + static_cast<int>(threadIdx.x) % (depth / 8) * 8;
    const Activation f = activation_of(part, at.inside ? at.n : 0, own);
    if (part.by_copy())
        activate_unit<depth, skipped>(box, unit, f, at, s);
    else
        pool_unit<depth, skipped>(box, unit, f, part, own, at, s);
}

// The part that has the channels from c on, and which those are in it.
__device__ inline int part_of(const WgmmaInput& input, int& c) {
    if (c < input.split) return 0;
    c -= input.split;
    return 1;
}

// One of the `warps` that prepare. Units are dealt to them in turns, across boxes and stages: `next` is this warp's
// first one from here on.
struct Preparing {
    float4* coarse;
    int next, warps;

    __device__ Preparing(unsigned char* all_coarse, int warp, int warps_)
        : coarse(reinterpret_cast<float4*>(all_coarse + warp * coarse_bytes)), next(warp), warps(warps_) {}
};

// This warp's share of a box, of the part's channels from c on; place() says where it lies.
template <int depth, int skipped, class Shape, class Place>
__device__ void prepare_box(unsigned char* box, Preparing& warp, const WgmmaPart& part, int c, const Shape& s,
                            const Place& place) {
    const int units = units_of_box<depth>(part.resampling);
    if (warp.next < units) {
        const BoxPlace at = place();
#pragma unroll 1
        for (; warp.next < units; warp.next += warp.warps)
            prepare_unit<depth, skipped>(box, warp.coarse, warp.next, part, c, at, s);
    }
    warp.next -= units;
}

// Where a warp has done its share of a stage: each thread shows to the products what it has written, then one arrives.
__device__ inline void arrive_prepared(std::uint64_t* full) {
    hopper::shared_memory_fence();
    warp_sync();
    if (threadIdx.x % 32 == 0) hopper::barrier_arrive(full);
}

#endif

inline WgmmaInput wgmma_input(const PendingInput& input, const FusedConvParams& p) {
    WgmmaInput parts{};
    for (int i = 0; i < 2; ++i) {
        const PendingParams& pending = p.parts[i];
        if (pending.channels == 0) continue;
        const Pending& views = input.parts[static_cast<std::size_t>(i)];
        const Grid grid = p.part_grid(i);
        WgmmaPart& part = parts.parts[i];
        part.x = static_cast<const std::uint16_t*>(views.x.data);
        part.channels = static_cast<int>(pending.channels);
        part.slope = static_cast<float>(pending.slope);
        part.resampling = pending.resampling;
        part.d = static_cast<int>(grid.d);
        part.h = static_cast<int>(grid.h);
        part.w = static_cast<int>(grid.w);
        if (pending.groups == 0) continue;
        part.mean = views.mean.as<float>();
        part.rstd = views.rstd.as<float>();
        part.gamma = views.gamma.as<float>();
        part.beta = views.beta.as<float>();
        part.groups = static_cast<int>(pending.groups);
        part.group_channels = static_cast<int>(pending.channels / pending.groups);
    }
    parts.split = parts.parts[0].channels;
    return parts;
}

// Of a part that the TMA brings; of others a map that no copy uses.
inline hopper::TensorMap part_map(const WgmmaPart& part, const ConvParams& p, int depth, int rows) {
    if (part.channels == 0 || !part.by_copy()) return hopper::TensorMap{};
    return hopper::tensor_map<5>(part.x, {part.channels, p.grid.w, p.grid.h, p.grid.d, p.n}, {depth, 10, rows, 1, 1});
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
