// Rung 6 of the fused convolution (kernels/fused_conv.h): the kernels of wgmma.cuh and wgmma_resident.cuh with seven
// warps more, which make what is pending (wgmma_pending.cuh), and with the statistics of what is stored.
//
// Of the four warpgroups the second and third multiply. The first warp of the first asks for copies; its other three
// and the fourth warpgroup prepare pixels. A stage of pixels goes round, its use number u in the order of the steps:
//
//   raw     the copies of use u have landed (or, where pixels come by no copy, the stage may be written)
//   full    all seven warps have prepared use u
//   empty   the products that read use u have ended
//
// Each of the three is waited for by those that come next, and by nobody else, in the order of u:
//   - the copying warp waits for empty of u - 1, then begins raw of u;
//   - a preparing warp waits for raw of u before it arrives at full of u. It therefore never arrives at full of u while
//     u - 1 is still open: raw of u means empty of u - 1, which means full of u - 1;
//   - a multiplying warpgroup waits for full of u, then arrives at empty of u.
// Parities cannot be mistaken: none of these phases can end twice before its waiter has passed, since the second time
// needs the waiter's own arrival in between; and none is waited for before the phase ahead of it has ended. The last is
// plain where every use is one's own. Where the two warpgroups take tiles in turns, it holds because warps prepare in
// the order of u, so that full ends in that order too, and because there are more stages than a tile has steps
// (resident_stages): the use of the same stage before lies no later than the last of this warpgroup's tile before.
// Nothing waits in a circle: copies wait for products of an earlier use alone, preparation for copies, products for
// preparation.
#pragma once

#include "kernels/cuda/conv/wgmma_moments.cuh"
#include "kernels/cuda/conv/wgmma_resident.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

#if COVER_SM90A

// What a preparing warp does of one use of a stage: waits for it, prepares its share of the boxes that `boxes` has bits
// for, and arrives. place(i) says where box i lies.
template <int depth, class Place>
__device__ void prepare_stage(unsigned char* stage, int block_bytes, unsigned boxes, Preparing& warp,
                              const WgmmaInput& input, int c, const WgmmaShape& s, std::uint64_t* raw,
                              std::uint64_t* full, unsigned parity, const Place& place) {
    const WgmmaPart& part = input.parts[part_of(input, c)];
    hopper::barrier_wait(raw, parity, 600);
#pragma unroll 1
    for (int i = 0; boxes >> i > 0; ++i)
        if (boxes >> i & 1) prepare_box<depth, 0>(stage + i * block_bytes, warp, part, c, s, [&] { return place(i); });
    arrive_prepared(full);
}

#endif

template <class Tile>
__global__ void __launch_bounds__(fused_threads, 1)
    wgmma_fused_resident(const __grid_constant__ hopper::TensorMap first_map,
                         const __grid_constant__ hopper::TensorMap second_map,
                         const __grid_constant__ hopper::TensorMap weight, const __grid_constant__ WgmmaInput input,
                         std::uint16_t* __restrict__ out, const float* __restrict__ bias, norm::Moments* moments,
                         WgmmaShape s, int stages) {
#if COVER_SM90A
    using namespace hopper;
    COVER_SHARED_MEMORY(all);
    unsigned char* const weights = all + (1024 - shared_address(all) % 1024) % 1024;
    const int steps = s.kernel_depth * (s.c_in / Tile::depth);
    unsigned char* const pixels = weights + (Tile::resident ? steps * 9 * Tile::weight_bytes : 0);
    unsigned char* const coarse = pixels + stages * Tile::stage_bytes;
    unsigned char* const strips = coarse + FusedTile<Tile>::coarse;
    auto* const loaded = reinterpret_cast<std::uint64_t*>(coarse + FusedTile<Tile>::bytes);
    auto* const raw = loaded + 1;
    auto* const full = raw + stages;
    auto* const empty = full + stages;
    if (threadIdx.x == 0) {
        barrier_init(loaded, 1);
        for (int i = 0; i < stages; ++i) {
            barrier_init(raw + i, 1);
            barrier_init(full + i, preparing_warps);
            barrier_init(empty + i, Tile::resident ? 4 : 8);
        }
        barrier_init_fence();
        prefetch_map(weight);
    }
    block_sync();

    // Neighbouring blocks of the grid share the pixels and differ in the output channels.
    const int output_groups = s.c_out / Tile::outputs;
    const int o = static_cast<int>(blockIdx.x) % output_groups * Tile::outputs;
    const int first = static_cast<int>(blockIdx.x) / output_groups,
              stride = static_cast<int>(gridDim.x) / output_groups;
    const int warp = shuffle(static_cast<int>(threadIdx.x) / 32, 0);
    if (warp < 4 || warp >= 12) {
        registers_decrease<FusedTile<Tile>::preparing_registers>();
        if (warp == 0) {
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
                const BoxPlace at = box_place(s, tile * Tile::blocks + lane, 0);
#pragma unroll 1
                for (int kd = 0; kd < s.kernel_depth; ++kd)
#pragma unroll 1
                    for (int c = 0; c < s.c_in; c += Tile::depth) {
                        int own = c;
                        const int part = part_of(input, own);
                        const bool copied = input.parts[part].by_copy();
                        const unsigned landing = (copied ? Tile::blocks * Tile::box_bytes : 0) +
                                                 (Tile::resident ? 0 : 9 * Tile::weight_bytes);
                        if (lane == 0) {
                            barrier_wait(empty + ring.stage, ring.parity ^ 1, 100 + ring.stage);
                            if (landing > 0)
                                barrier_arrive_expecting(raw + ring.stage, landing);
                            else
                                barrier_arrive(raw + ring.stage);
                        }
                        warp_sync(lanes);
                        unsigned char* const stage = pixels + ring.stage * Tile::stage_bytes;
                        unsigned char* const box = stage + lane * Tile::block_bytes;
                        if (copied && part == 0)
                            copy_box(box, first_map, raw + ring.stage, own, at.w, at.h, at.d + kd, at.n);
                        if (copied && part == 1)
                            copy_box(box, second_map, raw + ring.stage, own, at.w, at.h, at.d + kd, at.n);
                        if constexpr (!Tile::resident)
                            for (int tap = lane; tap < 9; tap += Tile::blocks)
                                copy_box(stage + Tile::blocks * Tile::block_bytes + tap * Tile::weight_bytes, weight,
                                         raw + ring.stage, c, (9 * kd + tap) * s.c_out + o);
                        ring.advance(stages);
                    }
            }
        } else {
            Preparing own(coarse, warp < 4 ? warp - 1 : warp - 9, preparing_warps);
            RingPlace ring;
#pragma unroll 1
            for (int tile = first; tile < s.tiles; tile += stride)
#pragma unroll 1
                for (int kd = 0; kd < s.kernel_depth; ++kd)
#pragma unroll 1
                    for (int c = 0; c < s.c_in; c += Tile::depth) {
                        prepare_stage<Tile::depth>(
                            pixels + ring.stage * Tile::stage_bytes, Tile::block_bytes, (1u << Tile::blocks) - 1, own,
                            input, c, s, raw + ring.stage, full + ring.stage, ring.parity,
                            [&](int box) { return box_place(s, tile * Tile::blocks + box, kd); });
                        ring.advance(stages);
                    }
        }
    } else {
        registers_increase<FusedTile<Tile>::multiplying_registers>();
        const int lane = static_cast<int>(threadIdx.x) % 32, consumer = warp / 4 - 1;
        const unsigned pixel_base = shared_address(pixels), weight_base = shared_address(weights);
        const int mine = Tile::resident ? 0 : consumer * Tile::own;  // of the blocks of a tile
        if (Tile::resident) barrier_wait(loaded, 0, 500);
        RingPlace ring;
        if (Tile::resident && consumer == 1) ring.skip(steps, stages);
        float2 biases[Tile::outputs / 8];
        load_bias(biases, bias, o);
        Statistics<Tile> statistics(moments, strips, consumer);
#pragma unroll 1
        for (int tile = Tile::resident ? first + consumer * stride : first; tile < s.tiles;
             tile += Tile::resident ? 2 * stride : stride) {
            float sum[Tile::own][Tile::outputs / 2];
            StorePlace places[Tile::own];
            const int block = tile * Tile::blocks + mine;
#pragma unroll
            for (int i = 0; i < Tile::own; ++i) places[i] = store_place(out, s, block + i, o);
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
            for (int i = 0; i < Tile::own; ++i)
                store_strip(
                    places[i], sum[i], [&](int u) { return biases[u]; }, std::int64_t{s.w} * s.c_out,
                    statistics.strip(i));
            statistics.finish_tile(Tile::own, block, o, s);
        }
    }
#endif
}

template <class Tile>
inline constexpr int fused_streamed_bytes = static_cast<int>(Tile::shared_bytes) + FusedTile<Tile>::bytes +
                                            8 * Tile::pixel_stages;

template <class Tile>
__global__ void __launch_bounds__(fused_threads, 1)
    wgmma_fused_streamed(const __grid_constant__ hopper::TensorMap first_map,
                         const __grid_constant__ hopper::TensorMap second_map,
                         const __grid_constant__ hopper::TensorMap weight, const __grid_constant__ WgmmaInput input,
                         std::uint16_t* __restrict__ out, const float* __restrict__ bias, norm::Moments* moments,
                         WgmmaShape s) {
#if COVER_SM90A
    using namespace hopper;
    COVER_SHARED_MEMORY(all);
    unsigned char* const pixels = all + (1024 - shared_address(all) % 1024) % 1024;
    unsigned char* const weights = pixels + Tile::pixel_stages * Tile::pixel_bytes;
    unsigned char* const coarse = weights + Tile::weight_stages * Tile::weight_bytes;
    unsigned char* const strips = coarse + FusedTile<Tile>::coarse;
    auto* const raw = reinterpret_cast<std::uint64_t*>(coarse + FusedTile<Tile>::bytes);
    auto* const full = raw + Tile::pixel_stages;
    auto* const empty = full + Tile::pixel_stages;
    auto* const weights_full = empty + Tile::pixel_stages;
    auto* const weights_empty = weights_full + Tile::weight_stages;
    auto* const lead = weights_empty + Tile::weight_stages;
    if (threadIdx.x == 0) {
        for (int i = 0; i < Tile::pixel_stages; ++i) {
            barrier_init(raw + i, 1);
            barrier_init(full + i, preparing_warps);
            barrier_init(empty + i, 4 * Tile::consumers);
        }
        for (int i = 0; i < Tile::weight_stages; ++i) {
            barrier_init(weights_full + i, 1);
            barrier_init(weights_empty + i, 4 * Tile::consumers);
        }
        barrier_init(lead, 4);
        barrier_init_fence();
        prefetch_map(weight);
    }
    block_sync();

    const int output_groups = s.c_out / Tile::outputs;
    const int warp = shuffle(static_cast<int>(threadIdx.x) / 32, 0);
    // The first block of pixels of a tile, and how many each warpgroup has of it.
    const auto place = [&](int tile, int& first, int& own, int& o) {
        own = tile < s.whole ? Tile::own : Tile::own / 2;
        o = tile % output_groups * Tile::outputs;
        first = tile < s.whole
                    ? tile / output_groups * Tile::blocks
                    : s.whole / output_groups * Tile::blocks + (tile - s.whole) / output_groups * (Tile::blocks / 2);
    };
    if (warp < 4 || warp >= 12) {
        registers_decrease<FusedTile<Tile>::preparing_registers>();
        if (warp == 0) {
            // A lane to each block of pixels; the first asks for the weights as well.
            if (threadIdx.x >= Tile::blocks) return;
            constexpr unsigned lanes = (1u << Tile::blocks) - 1;
            const int lane = static_cast<int>(threadIdx.x);
            RingPlace pixel, by;
#pragma unroll 1
            for (int tile = static_cast<int>(blockIdx.x); tile < s.tiles; tile += static_cast<int>(gridDim.x)) {
                int first, own, o;
                place(tile, first, own, o);
                const bool wanted = lane % Tile::own < own;
                const BoxPlace at = box_place(s, first + lane / Tile::own * own + lane % Tile::own, 0);
#pragma unroll 1
                for (int kd = 0; kd < s.kernel_depth; ++kd)
#pragma unroll 1
                    for (int c = 0; c < s.c_in; c += Tile::depth) {
                        int c_part = c;
                        const int part = part_of(input, c_part);
                        const bool copied = input.parts[part].by_copy();
                        if (lane == 0) {
                            barrier_wait(empty + pixel.stage, pixel.parity ^ 1, 100 + pixel.stage);
                            if (copied)
                                barrier_arrive_expecting(raw + pixel.stage, Tile::consumers * own * Tile::box_bytes);
                            else
                                barrier_arrive(raw + pixel.stage);
                        }
                        warp_sync(lanes);
                        unsigned char* const box = pixels + pixel.stage * Tile::pixel_bytes + lane * Tile::block_bytes;
                        if (wanted && copied && part == 0)
                            copy_box(box, first_map, raw + pixel.stage, c_part, at.w, at.h, at.d + kd, at.n);
                        if (wanted && copied && part == 1)
                            copy_box(box, second_map, raw + pixel.stage, c_part, at.w, at.h, at.d + kd, at.n);
                        pixel.advance(Tile::pixel_stages);
                        if (lane == 0)
#pragma unroll 1
                            for (int tap = 9 * kd; tap < 9 * kd + 9; ++tap) {
                                barrier_wait(weights_empty + by.stage, by.parity ^ 1, 200 + by.stage);
                                barrier_arrive_expecting(weights_full + by.stage, Tile::weight_bytes);
                                copy_box(weights + by.stage * Tile::weight_bytes, weight, weights_full + by.stage, c,
                                         tap * s.c_out + o);
                                by.advance(Tile::weight_stages);
                            }
                    }
            }
        } else {
            Preparing preparing(coarse, warp < 4 ? warp - 1 : warp - 9, preparing_warps);
            RingPlace pixel;
#pragma unroll 1
            for (int tile = static_cast<int>(blockIdx.x); tile < s.tiles; tile += static_cast<int>(gridDim.x)) {
                int first, own, o;
                place(tile, first, own, o);
                const unsigned boxes = own == Tile::own ? 0xf : 0x5;  // of each warpgroup both, or the first
#pragma unroll 1
                for (int kd = 0; kd < s.kernel_depth; ++kd)
#pragma unroll 1
                    for (int c = 0; c < s.c_in; c += Tile::depth) {
                        prepare_stage<Tile::depth>(
                            pixels + pixel.stage * Tile::pixel_bytes, Tile::block_bytes, boxes, preparing, input, c, s,
                            raw + pixel.stage, full + pixel.stage, pixel.parity,
                            [&](int box) { return box_place(s, first + box / Tile::own * own + box % Tile::own, kd); });
                        pixel.advance(Tile::pixel_stages);
                    }
            }
        }
    } else {
        registers_increase<FusedTile<Tile>::multiplying_registers>();
        const int consumer = warp / 4 - 1, steps = s.kernel_depth * (s.c_in / Tile::depth);
        const unsigned pixel_base = shared_address(pixels) + consumer * Tile::own * Tile::block_bytes;
        RingPlace pixel, by;
        // The first warpgroup needs nothing of the second for as many taps: there are more stages of weights.
        static_assert(Tile::own == 2 && Tile::consumers == 2);
        static_assert(Tile::lead > 0 && Tile::lead < 9 && Tile::lead + 1 < Tile::weight_stages);
        if (consumer == 1) barrier_wait(lead, 0, 500);
        std::uint64_t* announced = consumer == 0 ? lead : nullptr;
        Statistics<Tile> statistics(moments, strips, consumer);
#pragma unroll 1
        for (int tile = static_cast<int>(blockIdx.x); tile < s.tiles; tile += static_cast<int>(gridDim.x)) {
            int first, own, o;
            place(tile, first, own, o);
            first += consumer * own;
            float sum[Tile::own][Tile::outputs / 2];
            const auto multiply = [&]<int count>() {
                multiply_tile<Tile, count>(sum, steps, pixel, by, pixel_base, shared_address(weights), full, empty,
                                           weights_full, weights_empty, announced);
#pragma unroll
                for (int i = 0; i < count; ++i) {
                    const float* const own_bias = bias + o + thread_of_warpgroup() % 4 * 2;
                    store_strip(
                        strip_place(out, s, first + i, o), sum[i],
                        [&](int u) { return __ldg(reinterpret_cast<const float2*>(own_bias + 8 * u)); },
                        std::int64_t{s.w} * s.c_out, statistics.strip(i));
                }
            };
            if (own == Tile::own)
                multiply.template operator()<Tile::own>();
            else
                multiply.template operator()<Tile::own / 2>();
            statistics.finish_tile(own, first, o, s);
            announced = nullptr;
        }
    }
#endif
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
