// The weight gradient of rung 6: its depth is the pixels, so that both operands lie across their rows in shared memory
// (MN-major), which wgmma takes as they are.
//
// A block owns some input and output channels of one depth of the kernel and sums over a slice of the batch's blocks of
// 8 x 8 pixels. One product is 64 rows, output channels, x (3 kw x input channels): the three kw are the same pixels of
// x from another start. With 64 output channels three warpgroups own a kh each. With 32 the other 32 rows are the same
// channels one line further down: where x lies at the pixel itself, these are kh 1 and kh 0 at once, and where it lies
// a line below, kh 2 (and kh 1 again, not kept).
#pragma once

#include "kernels/cuda/conv/wgmma.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

struct WgmmaWeightShape {
    int d, h, w, c_in, c_out;
    int kernel_depth;
    int down, across, pixel_blocks;
    int slice_blocks;  // blocks of pixels in a slice
};

// A block's channels: chunks x inputs, and outputs. inputs and outputs are 32 or 64; with 64 outputs there is one
// chunk.
template <int inputs_, int outputs_, int chunks_, int stages_>
struct WgmmaWeightTile {
    static constexpr int inputs = inputs_, outputs = outputs_, chunks = chunks_, stages = stages_;
    static constexpr bool by_kh = outputs == 64;
    static constexpr int consumers = by_kh         ? 3
                                     : chunks == 1 ? 2
                                                   : chunks,
                         threads = (consumers + 1) * hopper::warpgroup;
    static constexpr int products = by_kh || chunks == 1 ? 1 : 2, sums = 3 * inputs / 2;  // of a warpgroup, of a thread
    static constexpr int x_pixel = 2 * inputs, x_row = 10 * x_pixel, x_rows = by_kh ? 10 : 9, x_box = x_rows * x_row;
    static constexpr int chunk_bytes = (x_box + 1023) / 1024 * 1024;
    static constexpr int dy_pixel = 2 * outputs, dy_rows = by_kh ? 8 : 9, dy_box = dy_rows * 8 * dy_pixel;
    static constexpr int stage_bytes = chunks * chunk_bytes + (dy_box + 1023) / 1024 * 1024;
    static constexpr std::size_t shared_bytes = 1024 + static_cast<std::size_t>(stages) * (stage_bytes + 16);
    static constexpr int consumer_registers = consumers == 3 ? 160 : 232, producer_registers = consumers == 3 ? 32 : 40;
    static_assert(by_kh ? chunks == 1 : outputs == 32 && inputs == 32);
    static_assert(shared_bytes <= 227 * 1024);
};

#if COVER_SM90A
// The sums of eight channels over some of the 64 pixels of dy, of 64 threads: as many neighbours as a pixel has pieces
// of eight channels read one pixel.
template <class Tile>
__device__ void add_pixels(float (&sum)[8], const unsigned char* dy, int thread) {
    constexpr int pieces = Tile::outputs / 8, rows = 64 / pieces;
    const int piece = thread % pieces, row = thread / pieces;
    const int swizzled = piece ^ (row * Tile::dy_pixel / 128 % pieces);
#pragma unroll 2  // few registers are left here
    for (int i = 0; i < pieces; ++i) {
        const uint4 eight = *reinterpret_cast<const uint4*>(dy + (rows * i + row) * Tile::dy_pixel + swizzled * 16);
        const unsigned pairs[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
        for (int q = 0; q < 4; ++q) {
            sum[2 * q] += __uint_as_float(pairs[q] << 16);
            sum[2 * q + 1] += __uint_as_float(pairs[q] & 0xffff0000u);
        }
    }
}

// What one warpgroup multiplies and stores of a block's slice, from the stages that `full` says are there.
template <class Tile>
__device__ void multiply_slice(unsigned char* stages, std::uint64_t* full, std::uint64_t* empty, float* partial,
                               int first, int last, int consumer, int c, int o, int kd, const WgmmaWeightShape& s) {
    using namespace hopper;
    constexpr int dy_at = Tile::chunks * Tile::chunk_bytes;
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) % warpgroup / 32;
    // Where this warpgroup's products start in x; with 32 outputs the second starts a line below the first.
    const int own_chunk = Tile::chunks == 1 ? 0 : consumer;
    const int start = Tile::chunks == 1 ? consumer * Tile::x_row : own_chunk * Tile::chunk_bytes;
    const unsigned base = shared_address(stages);
    float sum[Tile::products][Tile::sums];
    int accumulate = 0, read = -1;
    RingPlace ring;
#pragma unroll 1
    for (int block = first; block < last; ++block) {
        barrier_wait(full + ring.stage, ring.parity, 300 + ring.stage);
        const unsigned stage = base + ring.stage * Tile::stage_bytes;
        const std::uint64_t a = matrix<Tile::dy_pixel>(stage + dy_at, 8 * Tile::dy_pixel, 8 * Tile::dy_pixel);
        const std::uint64_t b = matrix<Tile::x_pixel>(stage + start, Tile::x_row, Tile::x_pixel);
        products_fence();
#pragma unroll
        for (int k = 0; k < 4; ++k) {
#pragma unroll
            for (int i = 0; i < Tile::products; ++i)
                multiply_add_warpgroup<1, 1>(sum[i], moved(a, 16 * Tile::dy_pixel * k),
                                             moved(b, 2 * Tile::x_row * k + i * Tile::x_row), accumulate);
            accumulate = 1;
        }
        products_commit();
        products_wait<1>();
        if (lane == 0 && read >= 0) barrier_arrive(empty + read);
        read = ring.stage;
        ring.advance(Tile::stages);
    }
    products_wait<0>();
#pragma unroll
    for (int i = 0; i < Tile::products; ++i)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int m = 16 * warp + lane / 4 + 8 * r;
            // With 32 outputs: product 0 holds kh 1, and below it kh 0; product 1 kh 2.
            const int product = Tile::chunks == 1 ? consumer : i;
            const int kh = Tile::by_kh ? consumer : 1 + product - m / Tile::outputs;
            if (!Tile::by_kh && product == 1 && m >= Tile::outputs) continue;
            float* out = partial +
                         (((static_cast<std::int64_t>(blockIdx.y) * s.kernel_depth + kd) * 9 + 3 * kh) * s.c_in + c +
                          own_chunk * Tile::inputs + 2 * (lane % 4)) *
                             s.c_out +
                         o + m % Tile::outputs;
#pragma unroll
            for (int kw = 0; kw < 3; ++kw) {
#pragma unroll
                for (int f = 0; f < Tile::inputs / 8; ++f) {
                    const int at = 4 * (kw * Tile::inputs / 8 + f) + 2 * r;
                    out[0] = sum[i][at];
                    out[s.c_out] = sum[i][at + 1];
                    out += 8 * s.c_out;
                }
                out += (s.c_in - Tile::inputs) * s.c_out;
            }
        }
}
#endif

// partial (slices, taps, c_in, c_out), bias (slices, 2, c_out). blockIdx.x: (kd, input channels, output channels); y:
// slice.
template <class Tile>
__global__ void __launch_bounds__(Tile::threads, 1)
    wgmma_backward_weight(const __grid_constant__ hopper::TensorMap x, const __grid_constant__ hopper::TensorMap dy,
                          float* __restrict__ partial, float* __restrict__ bias, WgmmaWeightShape s) {
#if COVER_SM90A
    using namespace hopper;
    COVER_SHARED_MEMORY(all);
    unsigned char* const stages = all + (1024 - shared_address(all) % 1024) % 1024;
    auto* const full = reinterpret_cast<std::uint64_t*>(stages + Tile::stages * Tile::stage_bytes);
    auto* const empty = full + Tile::stages;
    constexpr int block_inputs = Tile::inputs * Tile::chunks, dy_at = Tile::chunks * Tile::chunk_bytes;
    const int tiles_o = s.c_out / Tile::outputs, tiles_i = s.c_in / block_inputs;
    int rest = static_cast<int>(blockIdx.x);
    const int o = rest % tiles_o * Tile::outputs;
    rest /= tiles_o;
    const int c = rest % tiles_i * block_inputs, kd = rest / tiles_i;
    const bool sums_bias = c == 0 && kd == 0;
    if (threadIdx.x == 0) {
        for (int i = 0; i < Tile::stages; ++i) {
            barrier_init(full + i, 1);
            barrier_init(empty + i, 4 * Tile::consumers + (sums_bias ? 2 : 0));
        }
        barrier_init_fence();
        prefetch_map(x);
        prefetch_map(dy);
    }
    block_sync();

    const int first = static_cast<int>(blockIdx.y) * s.slice_blocks;
    const int last = first + s.slice_blocks < s.pixel_blocks ? first + s.slice_blocks : s.pixel_blocks;
    const int group = shuffle(static_cast<int>(threadIdx.x) / warpgroup, 0);
    if (group == 0) {
        registers_decrease<Tile::producer_registers>();
        if (threadIdx.x >= 32) {
            // Two warps sum dy for the gradient of the bias, in one block of each slice and output channel.
            if (threadIdx.x >= 96 || !sums_bias) return;
            const int thread = static_cast<int>(threadIdx.x) - 32;
            float sum[8] = {};
            RingPlace ring;
#pragma unroll 1
            for (int block = first; block < last; ++block) {
                barrier_wait(full + ring.stage, ring.parity, 500 + ring.stage);
                add_pixels<Tile>(sum, stages + ring.stage * Tile::stage_bytes + dy_at, thread);
                warp_sync();
                if (thread % 32 == 0) barrier_arrive(empty + ring.stage);
                ring.advance(Tile::stages);
            }
            constexpr int pieces = Tile::outputs / 8;
#pragma unroll
            for (int e = 0; e < 8; ++e) {
#pragma unroll
                for (int lanes = pieces; lanes < 32; lanes *= 2) sum[e] += shuffle_xor(sum[e], lanes);
                if (thread % 32 < pieces)
                    bias[(static_cast<std::int64_t>(blockIdx.y) * 2 + thread / 32) * s.c_out + o +
                         8 * (thread % pieces) + e] = sum[e];
            }
            return;
        }
        if (threadIdx.x != 0) return;
        RingPlace ring;
#pragma unroll 1
        for (int block = first; block < last; ++block) {
            const int w = block % s.across * 8, line = block / s.across, h = line % s.down * 8, plane = line / s.down,
                      d = plane % s.d, n = plane / s.d;
            unsigned char* const stage = stages + ring.stage * Tile::stage_bytes;
            barrier_wait(empty + ring.stage, ring.parity ^ 1, 100 + ring.stage);
            barrier_arrive_expecting(full + ring.stage, Tile::chunks * Tile::x_box + Tile::dy_box);
#pragma unroll
            for (int i = 0; i < Tile::chunks; ++i)
                copy_box(stage + i * Tile::chunk_bytes, x, full + ring.stage, c + i * Tile::inputs, w - 1,
                         Tile::by_kh ? h - 1 : h, d + kd - s.kernel_depth / 2, n);
            copy_box(stage + dy_at, dy, full + ring.stage, o, w, h, d, n);
            ring.advance(Tile::stages);
        }
    } else {
        registers_increase<Tile::consumer_registers>();
        multiply_slice<Tile>(stages, full, empty, partial, first, last, group - 1, c, o, kd, s);
    }
#endif
}

// How many slices: so many that the blocks of 132 multiprocessors (the number is a constant: the order of the sums
// depends on shapes alone) end at about the same time, and no more than their partial sums are worth. `clocks`: of a
// block of pixels at full rate.
inline int wgmma_weight_slices(std::int64_t tiles, std::int64_t pixel_blocks, std::int64_t weights, double clocks) {
    int best = 1;
    double least = 0;
    for (int slices = 1; slices <= 132 && slices <= pixel_blocks && (slices == 1 || slices * weights <= 1 << 24);
         ++slices) {
        // 8 bytes of each partial sum at some 1500 a clock; 4000 clocks to start and end a block
        const double rounds = static_cast<double>((tiles * slices + 131) / 132);
        const double time = rounds * (clocks * static_cast<double>((pixel_blocks + slices - 1) / slices) + 4000) +
                            slices * static_cast<double>(weights) * 8 / 1500;
        if (slices == 1 || time < least) least = time, best = slices;
    }
    return best;
}

struct WgmmaWeightLaunch {
    WgmmaWeightShape shape;
    int tiles, slices;
};

template <class Tile>
WgmmaWeightLaunch wgmma_weight_launch(const ConvParams& p) {
    WgmmaWeightShape s{};
    s.d = static_cast<int>(p.grid.d);
    s.h = static_cast<int>(p.grid.h);
    s.w = static_cast<int>(p.grid.w);
    s.c_in = static_cast<int>(p.c_in);
    s.c_out = static_cast<int>(p.c_out);
    s.kernel_depth = p.kernel_depth();
    s.down = (s.h + 7) / 8;
    s.across = (s.w + 7) / 8;
    s.pixel_blocks = static_cast<int>(p.n) * s.d * s.down * s.across;
    const int tiles = s.kernel_depth * (s.c_in / (Tile::inputs * Tile::chunks)) * (s.c_out / Tile::outputs);
    const double clocks = 2.0 * Tile::consumers * Tile::products * Tile::sums * 2;  // m64nNk16 takes N / 2, k is 64
    const int wanted = wgmma_weight_slices(tiles, s.pixel_blocks, p.weight_count(), clocks);
    s.slice_blocks = (s.pixel_blocks + wanted - 1) / wanted;
    return {s, tiles, (s.pixel_blocks + s.slice_blocks - 1) / s.slice_blocks};
}

template <class Tile>
void launch_wgmma_weight(const WgmmaWeightLaunch& of, float* partial, float* bias, const void* dy, const void* x,
                         const ConvParams& p, Stream& stream) {
    const hopper::TensorMap x_map =
        hopper::tensor_map<5>(x, {p.c_in, p.grid.w, p.grid.h, p.grid.d, p.n}, {Tile::inputs, 10, Tile::x_rows, 1, 1});
    const hopper::TensorMap dy_map = hopper::tensor_map<5>(dy, {p.c_out, p.grid.w, p.grid.h, p.grid.d, p.n},
                                                           {Tile::outputs, 8, Tile::dy_rows, 1, 1});
    launch(stream, "conv wgmma_backward_weight",
           dim3(static_cast<unsigned>(of.tiles), static_cast<unsigned>(of.slices)), Tile::threads, Tile::shared_bytes,
           wgmma_backward_weight<Tile>, x_map, dy_map, partial, bias, of.shape);
}

inline bool fits_wgmma_backward_weight(const ConvParams& p, const DeviceFacts& facts) {
    return fits_wgmma_counts(p, facts) && p.c_in % 32 == 0 && p.c_out % 32 == 0;
}

// Calls use(Tile) with the tile of the layer's weight gradient.
template <class Use>
void with_weight_tile(const ConvParams& p, const Use& use) {
    if (p.c_out % 64 == 0 && p.c_in % 64 == 0) return use(WgmmaWeightTile<64, 64, 1, 8>{});
    if (p.c_out % 64 == 0) return use(WgmmaWeightTile<32, 64, 1, 12>{});
    if (p.c_in % 96 == 0) return use(WgmmaWeightTile<32, 32, 3, 8>{});
    if (p.c_in % 64 == 0) return use(WgmmaWeightTile<32, 32, 2, 10>{});
    use(WgmmaWeightTile<32, 32, 1, 16>{});
}

// dweight += the slices of weights (slices, count), dbias += those of biases (2 slices, c_out), in their order. Stands
// in conv.cu for all.
void launch_wgmma_add(float* dweight, const float* weights, float* dbias, const float* biases, int slices,
                      const ConvParams& p, Stream& stream);

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
