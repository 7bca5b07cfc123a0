// Rung 6 for layers of few channels, which memory bounds: a stage holds the pixels and serves all nine taps of a plane.
//
// Where all weights fit beside the pixels (from 32 or 64 channels to 32, 64 or 96) they stay in shared memory from
// first to last, and while one of the two warpgroups stores a tile, the other multiplies the next. Where they do not
// (96 to 32 in 3D) each stage brings the weights of its step as well, and both warpgroups work on one tile.
#pragma once

#include "kernels/cuda/conv/wgmma.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// A warpgroup has `own` blocks of 8 x 8 pixels at a time; a stage holds `depth` channels of a tile with its halos.
template <int outputs_, int depth_, int own_, bool resident_ = true>
struct ResidentTile {
    static constexpr int outputs = outputs_, depth = depth_, own = own_;
    static constexpr bool resident = resident_;
    static constexpr int blocks = resident ? own : 2 * own;  // of a tile
    static constexpr int threads = 3 * hopper::warpgroup;
    static constexpr int pixel_bytes = 2 * depth, row_bytes = 10 * pixel_bytes, box_bytes = 10 * row_bytes;
    static constexpr int block_bytes = (box_bytes + 1023) / 1024 * 1024;
    static constexpr int weight_bytes = outputs * pixel_bytes;  // of a tap
    static constexpr int stage_bytes = blocks * block_bytes + (resident ? 0 : 9 * weight_bytes);
    static constexpr int landing_bytes = blocks * box_bytes + (resident ? 0 : 9 * weight_bytes);
    static constexpr std::size_t fixed_bytes = 2048;  // alignment and barriers
    static constexpr int most_stages = 32;
};

template <class Tile>
__global__ void __launch_bounds__(Tile::threads, 1)
    wgmma_conv_resident(const __grid_constant__ hopper::TensorMap in, const __grid_constant__ hopper::TensorMap weight,
                        std::uint16_t* __restrict__ out, const float* __restrict__ bias, WgmmaShape s, int stages) {
#if COVER_SM90A
    using namespace hopper;
    COVER_SHARED_MEMORY(all);
    unsigned char* const weights = all + (1024 - shared_address(all) % 1024) % 1024;
    const int steps = s.kernel_depth * (s.c_in / Tile::depth);
    unsigned char* const pixels = weights + (Tile::resident ? steps * 9 * Tile::weight_bytes : 0);
    auto* const loaded = reinterpret_cast<std::uint64_t*>(pixels + stages * Tile::stage_bytes);
    auto* const full = loaded + 1;
    auto* const empty = full + stages;
    if (threadIdx.x == 0) {
        barrier_init(loaded, 1);
        for (int i = 0; i < stages; ++i) {
            barrier_init(full + i, 1);
            barrier_init(empty + i, Tile::resident ? 4 : 8);
        }
        barrier_init_fence();
        prefetch_map(in);
        prefetch_map(weight);
    }
    block_sync();

    // Neighbouring blocks of the grid share the pixels and differ in the output channels.
    const int output_groups = s.c_out / Tile::outputs;
    const int o = static_cast<int>(blockIdx.x) % output_groups * Tile::outputs;
    const int first = static_cast<int>(blockIdx.x) / output_groups,
              stride = static_cast<int>(gridDim.x) / output_groups;
    const int group = shuffle(static_cast<int>(threadIdx.x) / warpgroup, 0);
    if (group == 0) {
        registers_decrease<40>();
        if (threadIdx.x >= Tile::blocks) return;
        constexpr unsigned lanes = (1u << Tile::blocks) - 1;
        const int lane = static_cast<int>(threadIdx.x);
        if (Tile::resident && lane == 0) {
            barrier_arrive_expecting(loaded, static_cast<unsigned>(steps * 9 * Tile::weight_bytes));
#pragma unroll 1
            for (int i = 0; i < steps * 9; ++i) {
                const int chunks = s.c_in / Tile::depth, step = i / 9, tap = step / chunks * 9 + i % 9;
                copy_box(weights + i * Tile::weight_bytes, weight, loaded, step % chunks * Tile::depth,
                         tap * s.c_out + o);
            }
        }
        RingPlace ring;
#pragma unroll 1
        for (int tile = first; tile < s.tiles; tile += stride) {
            const int block = tile * Tile::blocks + lane, w = block % s.across * 8 - 1, line = block / s.across,
                      h = line % s.down * 8 - 1, plane = line / s.down, d = plane % s.d - s.kernel_depth / 2,
                      n = plane / s.d;
#pragma unroll 1
            for (int kd = 0; kd < s.kernel_depth; ++kd)
#pragma unroll 1
                for (int c = 0; c < s.c_in; c += Tile::depth) {
                    if (lane == 0) {
                        barrier_wait(empty + ring.stage, ring.parity ^ 1, 100 + ring.stage);
                        barrier_arrive_expecting(full + ring.stage, Tile::landing_bytes);
                    }
                    warp_sync(lanes);
                    unsigned char* const stage = pixels + ring.stage * Tile::stage_bytes;
                    copy_box(stage + lane * Tile::block_bytes, in, full + ring.stage, c, w, h, d + kd, n);
                    if constexpr (!Tile::resident)
                        for (int tap = lane; tap < 9; tap += Tile::blocks)
                            copy_box(stage + Tile::blocks * Tile::block_bytes + tap * Tile::weight_bytes, weight,
                                     full + ring.stage, c, (9 * kd + tap) * s.c_out + o);
                    ring.advance(stages);
                }
        }
    } else {
        registers_increase<232>();
        const int lane = static_cast<int>(threadIdx.x) % 32, consumer = group - 1;
        const unsigned pixel_base = shared_address(pixels), weight_base = shared_address(weights);
        const int mine = Tile::resident ? 0 : consumer * Tile::own;  // of the blocks of a tile
        if (Tile::resident) barrier_wait(loaded, 0, 500);
        RingPlace ring;
        if (Tile::resident && consumer == 1) ring.skip(steps, stages);
        float2 biases[Tile::outputs / 8];
        load_bias(biases, bias, o);
#pragma unroll 1
        for (int tile = Tile::resident ? first + consumer * stride : first; tile < s.tiles;
             tile += Tile::resident ? 2 * stride : stride) {
            float sum[Tile::own][Tile::outputs / 2];
            StorePlace places[Tile::own];
#pragma unroll
            for (int i = 0; i < Tile::own; ++i) places[i] = store_place(out, s, tile * Tile::blocks + mine + i, o);
            int accumulate = 0, read = -1;
#pragma unroll 1
            for (int step = 0; step < steps; ++step) {
                barrier_wait(full + ring.stage, ring.parity, 300 + ring.stage);
                const unsigned stage = pixel_base + ring.stage * Tile::stage_bytes;
                const std::uint64_t a = matrix<Tile::pixel_bytes>(stage + mine * Tile::block_bytes, Tile::row_bytes);
                const std::uint64_t b =
                    matrix<Tile::pixel_bytes>(Tile::resident ? weight_base + step * 9 * Tile::weight_bytes
                                                             : stage + Tile::blocks * Tile::block_bytes,
                                              8 * Tile::pixel_bytes);
                products_fence();
#pragma unroll
                for (int tap = 0; tap < 9; ++tap)
#pragma unroll
                    for (int k = 0; k < Tile::depth / 16; ++k) {
#pragma unroll
                        for (int i = 0; i < Tile::own; ++i)
                            multiply_add_warpgroup<0, 0>(sum[i],
                                                         moved(a, i * Tile::block_bytes + tap / 3 * Tile::row_bytes +
                                                                      tap % 3 * Tile::pixel_bytes + 32 * k),
                                                         moved(b, tap * Tile::weight_bytes + 32 * k), accumulate);
                        accumulate = 1;
                    }
                products_commit();
                products_wait<1>();
                if (lane == 0 && read >= 0) barrier_arrive(empty + read);
                read = ring.stage;
                ring.advance(stages);
            }
            if (Tile::resident) ring.skip(steps, stages);
            products_wait<0>();
            if (lane == 0) barrier_arrive(empty + read);
#pragma unroll
            for (int i = 0; i < Tile::own; ++i) store_block(places[i], sum[i], biases, std::int64_t{s.w} * s.c_out);
        }
    }
#endif
}

template <class Tile>
std::int64_t resident_weight_bytes(const ConvParams& p) {
    return Tile::resident ? p.taps() * (p.c_in / Tile::depth) * Tile::weight_bytes : 0;
}

// Stages that fit beside the weights; 0 where the layer has no place here. Where the warpgroups take turns there must
// be more than a tile has steps: the one that waits for its next tile then waits for no phase but the current one of a
// barrier, whose parity would not tell it from the one before the last. This holds where boxes land stage by stage in
// the order in which they were asked for, as they do in practice; PTX does not promise it.
template <class Tile>
int resident_stages(const ConvParams& p, std::int64_t shared_bytes) {
    const std::int64_t steps = p.kernel_depth() * (p.c_in / Tile::depth);
    std::int64_t stages =
        (shared_bytes - static_cast<std::int64_t>(Tile::fixed_bytes) - resident_weight_bytes<Tile>(p)) /
        Tile::stage_bytes;
    if (stages > Tile::most_stages) stages = Tile::most_stages;
    return stages > (Tile::resident ? steps : 1) ? static_cast<int>(stages) : 0;
}

template <class Tile>
void launch_wgmma_resident(void* out, const void* in, const void* packed, const float* bias, const ConvParams& p,
                           int stages, Stream& stream) {
    WgmmaShape s = wgmma_shape(p);
    s.tiles = (s.pixel_blocks + Tile::blocks - 1) / Tile::blocks;
    const hopper::TensorMap in_map =
        hopper::tensor_map<5>(in, {p.c_in, p.grid.w, p.grid.h, p.grid.d, p.n}, {Tile::depth, 10, 10, 1, 1});
    const hopper::TensorMap weight_map =
        hopper::tensor_map<2>(packed, {p.c_in, p.taps() * p.c_out}, {Tile::depth, Tile::outputs});
    const int output_groups = s.c_out / Tile::outputs, most = hopper::multiprocessors() / output_groups;
    const int blocks = (s.tiles < most ? s.tiles : most < 1 ? 1 : most) * output_groups;
    launch(stream, "conv wgmma_conv_resident", dim3(static_cast<unsigned>(blocks)), Tile::threads,
           Tile::fixed_bytes + static_cast<std::size_t>(resident_weight_bytes<Tile>(p)) +
               static_cast<std::size_t>(stages) * Tile::stage_bytes,
           wgmma_conv_resident<Tile>, in_map, weight_map, static_cast<std::uint16_t*>(out), bias, s, stages);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
