// Rung 5 of the convolution's ladder: tensor cores, fragments read by ldmatrix. A warp owns 8 x 8 pixels and 32 output
// channels. A matrix of ldmatrix is 8 pixels of a row by 16 bytes of channels, so a fragment of 16 pixels is two rows,
// and any two rows of the halo make one: for each shift along the row the ten rows of the halo are read once, and serve
// the three taps above, at and below.
//
// In bytes it is the same for bfloat16, eight channels to a matrix, and for float32 with operands rounded to TF32,
// four.
//
// Weights lie in fragment order (pack.cuh). Where those of all taps and channels fit beside the pixels they are brought
// in once for all of the block's tiles; else they travel with their channels. The next channels, or the next tile's,
// are on their way while these are multiplied.
//
// The data gradient is the same kernel, with dy in the place of x and the weights mirrored and transposed. Channels are
// multiples of 8 and pointers are aligned to 16 bytes.
#pragma once

#include <algorithm>

#include "kernels/cuda/conv/halo.cuh"
#include "kernels/cuda/conv/pack.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// warps_*: along the rows, the columns and the outputs of a block's tile. pieces: of 16 bytes of channels, that are in
// shared memory of each pixel at a time.
template <class T, int side_, int warps_h_, int warps_w_, int groups_, int pieces_, int blocks_>
struct MatrixTile {
    using Element = T;
    static constexpr int pieces = pieces_, piece = 16 / sizeof(T), step = 2 * piece;  // step: channels of a fragment
    static constexpr int side = side_, warps_h = warps_h_, warps_w = warps_w_, groups = groups_, chunk = pieces * piece;
    static constexpr int threads = 32 * warps_h * warps_w * groups, blocks_per_processor = blocks_;
    static constexpr int height = 8 * warps_h, width = 8 * warps_w, outputs = 32 * groups;
    static constexpr int halo = side / 2, rows = height + 2 * halo, columns = width + 2 * halo;
    static constexpr int plane_taps = side * side, stages = 2;
    // An odd number of 16-byte units: the eight rows that ldmatrix reads at a time, neighbouring pixels, lie in
    // different banks.
    static constexpr int pitch = chunk + piece;
    static constexpr int pixel_count = rows * columns * pitch, weight_count = plane_taps * chunk * outputs;
};

template <class T, int side>
using FewOutputs = MatrixTile<T, side, 2, 2, 1, 4, 3>;  // 16 x 16 pixels, up to 32 outputs
template <class T, int side>
using ManyOutputs = MatrixTile<T, side, 2, 2, 2, 2, 2>;  // 16 x 16 pixels, 64 outputs
template <class T, int side>
using TallTile = MatrixTile<T, side, 3, 1, 2, 2, 2>;  // 24 x 8 pixels, 64 outputs: fills images of 24 x 24

struct MatrixPlan {
    HaloTiles tiles;
    int c_in, c_out, chunks, tiles_per_block;
    bool resident;  // the weights of all chunks and kernel depths lie in shared memory from the start
};

// Where the copies are: chunk by chunk, kernel plane by kernel plane, tile by tile. What it finds out about a tile is
// left in places for those who multiply, at tile % kept: the copies are at most two tiles ahead.
struct MatrixCursor {
    static constexpr int kept = 4;
    int tile, h, w, plane, planes, chunk, slab;  // plane: of the image, n D + d; planes: still to come of this tile

    template <class Tile>
    __device__ void begin(const MatrixPlan& plan, HaloPlace* places) {
        const HaloPlace at = halo_place(plan.tiles, tile, Tile::height, Tile::width);
        if (threadIdx.x == 0) places[tile % kept] = at;
        h = at.h - Tile::halo;
        w = at.w - Tile::halo;
        plane = at.plane + at.first_plane - plan.tiles.kernel_depth / 2;
        planes = at.planes;
        slab = (static_cast<int>(blockIdx.x) * plan.tiles.kernel_depth + at.first_plane) * plan.chunks;
        chunk = 0;
    }
    template <class Tile>
    __device__ void advance(const MatrixPlan& plan, int end, HaloPlace* places) {
        ++slab;
        if (++chunk < plan.chunks) return;
        chunk = 0;
        ++plane;
        if (--planes == 0 && ++tile < end) begin<Tile>(plan, places);
    }
};

// `count` elements, 16 bytes at a time.
template <int threads, class T>
__device__ void stage_weights(T* to, const T* from, int count) {
    constexpr int piece = 16 / sizeof(T);
#pragma unroll 1
    for (int e = piece * static_cast<int>(threadIdx.x); e < count; e += piece * threads)
        copy_async_16(to + e, from + e);
}

// What products of T read of a fragment that was loaded as it is stored.
template <class T>
__device__ void round_operands(unsigned (&fragment)[4]) {
    if constexpr (std::is_same_v<T, float>)
#pragma unroll
        for (unsigned& word : fragment) word = round_tf32(std::bit_cast<float>(word));
}
template <class T>
__device__ void multiply_add(float (&sum)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    if constexpr (std::is_same_v<T, float>)
        multiply_add_tf32(sum, a, b);
    else
        multiply_add_bf16(sum, a, b);
}

// sum += the product of one chunk. pixels: at the lane's row of the warp's first matrices; weights: at the lane's piece
// of the group's first fragment.
template <class Tile, class T = typename Tile::Element>
__device__ void multiply_chunk(float (&sum)[4][4][4], const T* pixels, const T* weights, int channels) {
    constexpr int side = Tile::side, step = Tile::step;
#pragma unroll 1
    for (int k = 0; k < Tile::chunk / step; ++k) {
        if (Tile::chunk > step && step * k >= channels) break;
// Unrolled, registers spill on sm_80.
#pragma unroll 1
        for (int kw = 0; kw < side; ++kw) {
            // The rows of the halo two by two: (upper, lower) of the first piece of channels, then of the second.
            constexpr int pairs = 4 + Tile::halo;
            unsigned rows[pairs][4];
#pragma unroll
            for (int i = 0; i < pairs; ++i) {
                load_matrix_x4(rows[i], pixels + (2 * i * Tile::columns + kw) * Tile::pitch + step * k);
                round_operands<T>(rows[i]);
            }
#pragma unroll
            for (int kh = 0; kh < side; ++kh) {
                unsigned b[4][2];
#pragma unroll
                for (int half = 0; half < 2; ++half) {
                    const uint4 piece = *reinterpret_cast<const uint4*>(
                        weights +
                        ((k * Tile::plane_taps + kh * side + kw) * Tile::groups * 2 + half) * 32 * Tile::piece);
                    b[2 * half][0] = piece.x;
                    b[2 * half][1] = piece.y;
                    b[2 * half + 1][0] = piece.z;
                    b[2 * half + 1][1] = piece.w;
                }
#pragma unroll
                for (int f = 0; f < 4; ++f) {
                    const int i = f + kh / 2, lower = i + kh % 2;
                    const unsigned a[4] = {rows[i][kh % 2], rows[lower][1 - kh % 2], rows[i][2 + kh % 2],
                                           rows[lower][3 - kh % 2]};
#pragma unroll
                    for (int j = 0; j < 4; ++j) multiply_add<T>(sum[f][j], a, b[j]);
                }
            }
        }
    }
}

// Where a thread's sums lie in its block's tile.
template <class Tile>
struct WarpPlace {
    int lane, warp, group, h, w;  // the warp's 32 outputs and its first pixel

    static __device__ WarpPlace of(int thread) {
        const int warp = thread / 32, across = warp / Tile::groups;
        return {thread % 32, warp, warp % Tile::groups, across / Tile::warps_w * 8, across % Tile::warps_w * 8};
    }
    // The same behind a tile, found anew: the compiler would keep all of it in registers during the products. No place
    // has negative planes.
    static __device__ WarpPlace behind(const HaloPlace& at) {
        return of(static_cast<int>(threadIdx.x) + (at.planes < 0));
    }
};

// in (n, d, h, w, c_in) -> out (n, d, h, w, c_out). weight: by pack_weights. bias may be null.
template <class Tile, class T = typename Tile::Element>
__global__ void __launch_bounds__(Tile::threads, Tile::blocks_per_processor)
    matrix_conv(T* out, const T* in, const T* weight, const float* bias, MatrixPlan plan) {
    Shared shared;
    const int slabs = plan.tiles.kernel_depth * plan.chunks;
    float* const shifts = shared.take<float>(Tile::outputs);
    HaloPlace* const places = shared.take<HaloPlace>(MatrixCursor::kept);
    T* const pixels = shared.take<T>(Tile::stages * Tile::pixel_count);
    T* const weights = shared.take<T>(std::int64_t{plan.resident ? slabs : Tile::stages} * Tile::weight_count);

    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int group = warp % Tile::groups, warp_w = warp / Tile::groups % Tile::warps_w,
              warp_h = warp / Tile::groups / Tile::warps_w;
    // The tiles of outputs come first, so that blocks that read the same pixels run side by side.
    const int output_tile = static_cast<int>(blockIdx.x);
    const int first = static_cast<int>(blockIdx.z * gridDim.y + blockIdx.y) * plan.tiles_per_block;
    if (first >= plan.tiles.tiles) return;
    const int end = first + plan.tiles_per_block < plan.tiles.tiles ? first + plan.tiles_per_block : plan.tiles.tiles;

    for (int e = static_cast<int>(threadIdx.x); e < Tile::outputs; e += Tile::threads) {
        const int o = output_tile * Tile::outputs + e;
        shifts[e] = bias && o < plan.c_out ? bias[o] : 0.0f;
    }

    MatrixCursor cursor{};
    cursor.tile = first;
    cursor.begin<Tile>(plan, places);
    const auto stage = [&](int slot) {
        if (cursor.tile < end) {
            stage_pixels<Tile::rows, Tile::columns, Tile::pieces, Tile::pitch, Tile::threads>(
                pixels + slot * Tile::pixel_count, in, plan.tiles, plan.c_in, cursor.plane, cursor.h, cursor.w,
                cursor.chunk * Tile::chunk);
            if (!plan.resident)
                stage_weights<Tile::threads>(weights + slot * Tile::weight_count,
                                             weight + std::int64_t{cursor.slab} * Tile::weight_count,
                                             Tile::weight_count);
            cursor.advance<Tile>(plan, end, places);
        }
        copy_commit();  // possibly empty, so that the same count is waited for in every step
    };
    if (plan.resident)
        stage_weights<Tile::threads>(weights, weight + std::int64_t{output_tile} * slabs * Tile::weight_count,
                                     slabs * Tile::weight_count);
    for (int slot = 0; slot < Tile::stages - 1; ++slot) stage(slot);
    block_sync();  // the first places are known

    // Lane l gives row l % 8 of matrix l / 8: matrices lie (upper, lower) row x (first, second piece of channels).
    const int lane_pixel = (8 * warp_h + lane / 8 % 2) * Tile::columns + 8 * warp_w + lane % 8;
    const int lane_in_pixels = lane_pixel * Tile::pitch + Tile::piece * (lane / 16),
              lane_in_weights = group * 64 * Tile::piece + lane * Tile::piece;
    int slot = 0;
    for (int tile = first; tile < end; ++tile) {
        float sum[4][4][4] = {};
        const HaloPlace& at = places[tile % MatrixCursor::kept];
        int slab = at.first_plane * plan.chunks, channel = 0;
        for (int steps = at.planes * plan.chunks; steps > 0; --steps) {
            copy_wait<Tile::stages - 2>();
            block_sync();  // this step's pixels are there, the last step's are no longer read
            stage((slot + Tile::stages - 1) % Tile::stages);
            multiply_chunk<Tile>(sum, pixels + slot * Tile::pixel_count + lane_in_pixels,
                                 weights + (plan.resident ? slab : slot) * Tile::weight_count + lane_in_weights,
                                 plan.c_in - channel);
            slot = (slot + 1) % Tile::stages;
            ++slab;
            channel = channel + Tile::chunk < plan.c_in ? channel + Tile::chunk : 0;
        }

        // Of float32 the stores need more registers than the products leave on sm_80.
        const auto own = std::is_same_v<T, float> ? WarpPlace<Tile>::behind(at)
                                                  : WarpPlace<Tile>{lane, warp, group, 8 * warp_h, 8 * warp_w};
        const int lane_output = 32 * own.group + 8 * (own.lane % 4);  // the first of the lane's eight outputs
        const int o = output_tile * Tile::outputs + lane_output;
        if (o >= plan.c_out) continue;
        const float* const shift = shifts + lane_output;
        const int w = at.w + own.w + own.lane / 4;
        const std::int64_t line = std::int64_t{at.plane} * plan.tiles.h + at.h + own.h;
#pragma unroll
        for (int row = 0; row < 8; ++row) {
            const auto pair = [&](int j) {
                const float* const two = sum[row / 2][j] + row % 2 * 2;
                return pair_of<T>(two[0] + shift[2 * j], two[1] + shift[2 * j + 1]);
            };
            if (at.h + own.h + row < plan.tiles.h && w < plan.tiles.w)
                *reinterpret_cast<Eight<T>*>(out + (line + row) * plan.tiles.w * plan.c_out + (w * plan.c_out + o)) =
                    eight_of(pair(0), pair(1), pair(2), pair(3));
        }
    }
    copy_wait<0>();
}

template <class Tile>
constexpr std::size_t matrix_bytes(std::int64_t slabs) {
    using T = typename Tile::Element;
    return Shared::shared_bytes_of<T>(Tile::stages * Tile::pixel_count) +
           Shared::shared_bytes_of<T>(slabs * Tile::weight_count) + Shared::shared_bytes_of<float>(Tile::outputs) +
           Shared::shared_bytes_of<HaloPlace>(MatrixCursor::kept);
}

template <class T>
bool fits_matrices(const ConvParams& p, const DeviceFacts& facts) {
    return p.c_in % 8 == 0 && p.c_out % 8 == 0 && facts.compute_capability >= 80 &&
           facts.shared_memory_per_block >= static_cast<std::int64_t>(matrix_bytes<FewOutputs<T, 3>>(2));
}

// How a convolution is cut, by shape alone. p in the direction of this pass; the weights are the convolution's own,
// transposed for the data gradient.
struct MatrixLaunch {
    MatrixPlan plan;
    PackedWeights layout;
    dim3 grid;
    std::size_t shared_bytes;

    // more_bytes: of shared memory, that a kernel takes beside what all take.
    template <class Tile>
    static MatrixLaunch of(const ConvParams& p, bool transposed, std::size_t more_bytes, const Stream& stream) {
        MatrixPlan plan{};
        plan.tiles = HaloTiles::of(p, Tile::height, Tile::width);
        plan.c_in = static_cast<int>(p.c_in);
        plan.c_out = static_cast<int>(p.c_out);
        plan.chunks = (plan.c_in + Tile::chunk - 1) / Tile::chunk;
        const int output_tiles = (plan.c_out + Tile::outputs - 1) / Tile::outputs;
        const std::int64_t slabs = std::int64_t{plan.chunks} * p.kernel_depth();
        // With more than this no two blocks would share a processor of an H100.
        constexpr std::int64_t most_resident = 112 * 1024;
        const auto resident_bytes = static_cast<std::int64_t>(matrix_bytes<Tile>(slabs) + more_bytes);
        plan.resident = resident_bytes <= most_resident && resident_bytes <= stream.facts->shared_memory_per_block;
        // Some thousand blocks, and tiles in a row for each where there are more.
        const std::int64_t all = std::int64_t{plan.tiles.tiles} * output_tiles;
        plan.tiles_per_block = static_cast<int>(std::clamp<std::int64_t>(all / 792, 1, 8));
        const int blocks = (plan.tiles.tiles + plan.tiles_per_block - 1) / plan.tiles_per_block;
        const unsigned layers = (static_cast<unsigned>(blocks) + 32767) / 32768;
        return {
            plan,
            {plan.c_in, plan.c_out, p.kernel_depth(), Tile::plane_taps, plan.chunks * Tile::chunk / Tile::step,
             output_tiles, Tile::groups, transposed},
            dim3(static_cast<unsigned>(output_tiles), (static_cast<unsigned>(blocks) + layers - 1) / layers, layers),
            matrix_bytes<Tile>(plan.resident ? slabs : Tile::stages) + more_bytes};
    }
    // In 16-byte pieces, as the kernel reads them.
    template <class T>
    Workspace<T> packed(const float* weight, Stream& stream) const {
        Workspace<T> packed(16 / sizeof(T) * layout.fragments(), stream);
        launch(stream, "conv pack_weights", blocks_for(layout.fragments()), threads_per_block, 0, pack_weights<T>,
               packed.data(), weight, layout);
        return packed;
    }
};

template <class Tile>
void launch_matrix(View out, ConstView in, const float* weight, const float* bias, const ConvParams& p, bool transposed,
                   Stream& stream) {
    const MatrixLaunch how = MatrixLaunch::of<Tile>(p, transposed, 0, stream);
    using T = typename Tile::Element;
    Workspace<T> packed = how.packed<T>(weight, stream);
    launch(stream, "conv matrix_conv", how.grid, Tile::threads, how.shared_bytes, matrix_conv<Tile>, out.as<T>(),
           in.as<T>(), packed.data(), bias, how.plan);
}

// Calls body(Tile()) with the tile for this shape.
template <class T, int side, class Body>
void with_matrix_tile(const ConvParams& p, const Body& body) {
    if (p.c_out <= 32 || (p.c_out > 64 && p.c_out <= 96)) return body(FewOutputs<T, side>());
    if constexpr (side == 3) {
        const auto padded = [&p](std::int64_t height, std::int64_t width) {
            return (p.grid.h + height - 1) / height * height * ((p.grid.w + width - 1) / width * width);
        };
        if (padded(24, 8) < padded(16, 16)) return body(TallTile<T, side>());
    }
    body(ManyOutputs<T, side>());
}

template <class T, int side>
void choose_matrix(View out, ConstView in, const float* weight, const float* bias, const ConvParams& p, bool transposed,
                   Stream& stream) {
    const ConvParams flat = without_neighbours(p);
    with_matrix_tile<T, side>(
        flat, [&]<class Tile>(Tile) { launch_matrix<Tile>(out, in, weight, bias, flat, transposed, stream); });
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
