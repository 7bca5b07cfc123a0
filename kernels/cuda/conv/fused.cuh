// Rung 5 as a fused convolution: matrix_conv on an input on which something is pending (pending.cuh), and the moments
// of what it stores, from registers, for the group norm that follows. Eight channels lie in one lane, so that a unit of
// the moments is a lane's, summed over the eight lanes of its warp that have the same channels, then over the warps.
#pragma once

#include "kernels/cuda/conv/ldmatrix.cuh"
#include "kernels/cuda/conv/pending.cuh"
#include "kernels/cuda/conv/unit_moments.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// With 512 threads on a processor there are 128 registers for each.
template <class Tile>
using MatrixPixels =
    StagedPixels<typename Tile::Element, Tile::side, Tile::rows, Tile::columns, Tile::chunk, Tile::pitch, Tile::threads,
                 (Tile::threads * Tile::blocks_per_processor < 512 ? 4 : 2)>;

// Mean of what a warp stores of eight channels, and the squares about it.
struct WarpMoments {
    float mean, squares;
};

// Pixels of the 8 x 8 from (h, w) that are inside of the image.
__device__ inline int inside_of_eight(int at, int side) {
    const int left = side - at;
    return left < 0 ? 0 : left < 8 ? left : 8;
}

// Calls body(a, b) for eight channels as they are stored, two by two.
template <class Body>
__device__ void for_pairs(const uint4& eight, const Body& body) {
    const unsigned words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
    for (const unsigned word : words) body(std::bit_cast<float>(word << 16), std::bit_cast<float>(word & 0xffff0000u));
}
template <class Body>
__device__ void for_pairs(const TwoQuads& eight, const Body& body) {
    body(eight.low.x, eight.low.y);
    body(eight.low.z, eight.low.w);
    body(eight.high.x, eight.high.y);
    body(eight.high.z, eight.high.w);
}

// stored: the lane's eight channels of the pixels of one column, `rows` of them inside of the image; none where the
// lane stores nothing. count: of the values of all lanes. Every lane of the warp has to come here.
template <class Stored>
__device__ WarpMoments moments_of_column(const Stored (&stored)[8], int rows, float count) {
    const auto sum_of = [&](const auto& term) {
        float sum = 0;
#pragma unroll
        for (int row = 0; row < 8; ++row) {
            if (row >= rows) continue;
            for_pairs(stored[row], [&](float a, float b) { sum += term(a) + term(b); });
        }
#pragma unroll
        for (int lanes = 4; lanes < 32; lanes *= 2) sum += shuffle_xor(sum, lanes);
        return sum;
    };
    const float scale = count > 0 ? 1.0f / count : 0.0f, mean = sum_of([](float value) { return value; }) * scale;
    return {mean, sum_of([mean](float value) { return (value - mean) * (value - mean); })};
}

// parts (n, d, h, w, channels) -> out (n, d, h, w, c_out). weight: by pack_weights. moments (tiles, c_out / 8), or
// null.
template <class Tile, class T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_per_processor)
    fused_matrix_conv(T* out, norm::Moments* moments, PendingParts<T> input, const T* weight, const float* bias,
                      MatrixPlan plan, int small_count) {
    using Staged = MatrixPixels<Tile>;
    static_assert(Tile::stages == 2);
    Shared shared;
    const int slabs = plan.tiles.kernel_depth * plan.chunks;
    // What has a fixed size comes first: its place needs no register.
    float* const shifts = shared.take<float>(Tile::outputs);
    HaloPlace* const places = shared.take<HaloPlace>(MatrixCursor::kept);
    PendingPart<T>* const parts = shared.take<PendingPart<T>>(2);
    WarpMoments* const warp_moments = shared.take<WarpMoments>(Tile::threads / 8);
    T* const pixels = shared.take<T>(Tile::stages * Tile::pixel_count);
    T* const weights = shared.take<T>(std::int64_t{plan.resident ? slabs : Tile::stages} * Tile::weight_count);
    T* const small = shared.take<T>(small_count);

    const int output_tile = static_cast<int>(blockIdx.x);
    const int first = static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y) * plan.tiles_per_block;
    if (first >= plan.tiles.tiles) return;
    const int end = first + plan.tiles_per_block < plan.tiles.tiles ? first + plan.tiles_per_block : plan.tiles.tiles;

    share(parts, input);
    for (int e = static_cast<int>(threadIdx.x); e < Tile::outputs; e += Tile::threads) {
        const int o = output_tile * Tile::outputs + e;
        shifts[e] = o < plan.c_out ? bias[o] : 0.0f;
    }
    if (plan.resident)
        stage_weights<Tile::threads>(weights, weight + std::int64_t{output_tile} * slabs * Tile::weight_count,
                                     slabs * Tile::weight_count);
    MatrixCursor cursor{};
    cursor.tile = first;
    cursor.begin<Tile>(plan, places);
    block_sync();  // the parts are known, and the first places

    const auto place = [&] {
        const HaloPlace& at = places[cursor.tile % MatrixCursor::kept];
        return StagedPlace{cursor.plane, at.h - Tile::halo, at.w - Tile::halo, cursor.chunk * Tile::chunk};
    };
    const auto request = [&](int slot) {
        if (cursor.tile < end) {
            request_pixels<Staged>(pixels + slot * Tile::pixel_count, small, parts, plan.tiles, plan.c_in, place());
            if (!plan.resident)
                stage_weights<Tile::threads>(weights + slot * Tile::weight_count,
                                             weight + std::int64_t{cursor.slab} * Tile::weight_count,
                                             Tile::weight_count);
        }
        copy_commit();
    };
    request(0);

    const WarpPlace<Tile> own = WarpPlace<Tile>::of(static_cast<int>(threadIdx.x));
    const int lane_pixel = (own.h + own.lane / 8 % 2) * Tile::columns + own.w + own.lane % 8;
    const int lane_in_pixels = lane_pixel * Tile::pitch + Tile::piece * (own.lane / 16),
              lane_in_weights = own.group * 64 * Tile::piece + own.lane * Tile::piece;
    int slot = 0;
    for (int tile = first; tile < end; ++tile) {
        float sum[4][4][4] = {};
        do {
            copy_wait<0>();
            finish_pixels<Staged>(pixels + slot * Tile::pixel_count, small, parts, plan.tiles, plan.c_in, place());
            const int slab = cursor.slab - output_tile * slabs, channels = plan.c_in - cursor.chunk * Tile::chunk;
            cursor.advance<Tile>(plan, end, places);
            block_sync();  // this step's pixels are there, the last step's are no longer read
            request(1 - slot);
            multiply_chunk<Tile>(sum, pixels + slot * Tile::pixel_count + lane_in_pixels,
                                 weights + (plan.resident ? slab : slot) * Tile::weight_count + lane_in_weights,
                                 channels);
            slot = 1 - slot;
        } while (cursor.tile == tile);

        const HaloPlace& at = places[tile % MatrixCursor::kept];
        const WarpPlace<Tile> warp = WarpPlace<Tile>::behind(at);
        const int lane_output = 32 * warp.group + 8 * (warp.lane % 4);  // the first of the lane's eight outputs
        const int o = output_tile * Tile::outputs + lane_output;
        const float* const shift = shifts + lane_output;
        const int w = at.w + warp.w + warp.lane / 4, h = at.h + warp.h;
        const int rows = o < plan.c_out && w < plan.tiles.w ? inside_of_eight(h, plan.tiles.h) : 0;
        const std::int64_t line = std::int64_t{at.plane} * plan.tiles.h + h;
        Eight<T> stored[8];
#pragma unroll
        for (int row = 0; row < 8; ++row) {
            const auto pair = [&](int j) {
                const float* const two = sum[row / 2][j] + row % 2 * 2;
                const float low = two[0] + shift[2 * j], high = two[1] + shift[2 * j + 1];
                if constexpr (std::is_same_v<T, float>)
                    return make_float2(low, high);
                else
                    return round_bf16x2(low, high);
            };
            stored[row] = eight_of(pair(0), pair(1), pair(2), pair(3));
            if (row < rows)
                *reinterpret_cast<Eight<T>*>(out + (line + row) * plan.tiles.w * plan.c_out + (w * plan.c_out + o)) =
                    stored[row];
        }
        if (!moments) continue;
        const auto count_of = [&](int from_h, int from_w) {
            return 8 * inside_of_eight(from_h, plan.tiles.h) * inside_of_eight(from_w, plan.tiles.w);
        };
        const WarpMoments column = moments_of_column(stored, rows, static_cast<float>(count_of(h, at.w + warp.w)));
        if (warp.lane < 4) warp_moments[4 * warp.warp + warp.lane] = column;
        block_sync();  // those of all warps are there; a barrier of the next tile comes before they change
        const int unit = 32 * warp.warp + warp.lane;
        if (8 * unit >= Tile::outputs || output_tile * Tile::outputs + 8 * unit >= plan.c_out) continue;
        const auto for_warps = [&](const auto& body) {
            for (int k = 0; k < Tile::warps_h * Tile::warps_w; ++k)
                body(static_cast<double>(count_of(at.h + k / Tile::warps_w * 8, at.w + k % Tile::warps_w * 8)),
                     warp_moments[4 * (k * Tile::groups + unit / 4) + unit % 4]);
        };
        double count = 0, total = 0, squares = 0;
        for_warps([&](double values, const WarpMoments& of) {
            count += values;
            total += values * static_cast<double>(of.mean);
        });
        const double mean = total / count;
        for_warps([&](double values, const WarpMoments& of) {
            const double step = static_cast<double>(of.mean) - mean;
            squares += static_cast<double>(of.squares) + values * step * step;
        });
        moments[std::int64_t{tile} * (plan.c_out / 8) + output_tile * (Tile::outputs / 8) + unit] = {mean, squares};
    }
}

template <class Tile>
std::size_t fused_bytes(int small_count) {
    using T = typename Tile::Element;
    return Shared::shared_bytes_of<PendingPart<T>>(2) + Shared::shared_bytes_of<WarpMoments>(Tile::threads / 8) +
           Shared::shared_bytes_of<T>(small_count);
}

template <class Tile>
void launch_fused(View y, View mean, View rstd, const PendingInput& input, ConstView weight, ConstView bias,
                  const FusedConvParams& p, const ConvParams& flat, Stream& stream) {
    using T = typename Tile::Element;
    const int small_count = small_elements<MatrixPixels<Tile>>(p);
    const MatrixLaunch how = MatrixLaunch::of<Tile>(flat, false, fused_bytes<Tile>(small_count), stream);
    Workspace<T> packed = how.packed<T>(weight.as<float>(), stream);
    FusedConvParams stored = p;
    stored.conv = flat;
    const TileCut cut = TileCut::of(how.plan.tiles, how.plan.c_out, Tile::height, Tile::width);
    Workspace<norm::Moments> moments(p.groups > 0 ? flat.n * cut.slices * cut.units : 0, stream);
    launch(stream, "fused_conv matrix_conv", how.grid, Tile::threads, how.shared_bytes, fused_matrix_conv<Tile>,
           y.as<T>(), p.groups > 0 ? moments.data() : nullptr, pending_parts<T>(input, stored), packed.data(),
           bias.as<float>(), how.plan, small_count);
    if (p.groups > 0) launch_tile_statistics(mean, rstd, moments.data(), p.statistics(), cut, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
