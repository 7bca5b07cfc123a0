#include "tests/emulation_hopper_kernels.h"

namespace cover::cuda::COVER_CUDA_BUILD {

using namespace hopper;

__global__ void copy_one_box(unsigned* out, const __grid_constant__ TensorMap map, int bytes, int c0, int c1,
                             Mistake mistake) {
#if COVER_SM90A
    COVER_SHARED_MEMORY(all);
    unsigned char* const box = all + (1024 - shared_address(all) % 1024) % 1024;
    auto* const landed = reinterpret_cast<std::uint64_t*>(box + bytes);
    if (threadIdx.x == 0) {
        if (mistake != Mistake::no_init) barrier_init(landed, 1);
        if (mistake == Mistake::two_inits) barrier_init(landed, 1);
        barrier_init_fence();
    }
    block_sync();
    if (threadIdx.x == 0) {
        barrier_arrive_expecting(landed, static_cast<unsigned>(bytes));
        if (mistake == Mistake::two_more_arrive) barrier_arrive(landed);
        copy_box(box + (mistake == Mistake::off_alignment  ? 64
                        : mistake == Mistake::past_the_end ? 2048
                                                           : 0),
                 map, landed, c0, c1);
    }
    if (mistake != Mistake::no_wait && mistake != Mistake::left_under_way)
        barrier_wait(landed, mistake == Mistake::wrong_parity ? 1 : 0);
    if (mistake == Mistake::one_wait_more) barrier_wait(landed, 1);
    for (int i = static_cast<int>(threadIdx.x); i < bytes / 4; i += 128) out[i] = reinterpret_cast<unsigned*>(box)[i];
    if (mistake == Mistake::no_wait) barrier_wait(landed, 0);
#endif
}

template <int count, int a_mn_major, int b_mn_major, int row>
__global__ void multiply_once(float* d, const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
                              Mistake mistake) {
#if COVER_SM90A
    constexpr int columns = 2 * count, row_bytes = 2 * row;
    // A box is 64 or 32 elements wide: K-major, the depth and what stands beside it; MN-major, part of M or N.
    constexpr int a_boxes = a_mn_major ? 64 / row : 1, b_boxes = b_mn_major ? (columns + row - 1) / row : 1;
    constexpr int a_bytes = (a_mn_major ? 16 : 64) * row_bytes, b_bytes = (b_mn_major ? 16 : columns) * row_bytes;
    COVER_SHARED_MEMORY(all);
    unsigned char* const a_at = all + (1024 - shared_address(all) % 1024) % 1024;
    unsigned char* const b_at = a_at + a_boxes * a_bytes;
    auto* const landed = reinterpret_cast<std::uint64_t*>(b_at + b_boxes * b_bytes);
    if (threadIdx.x == 0) {
        barrier_init(landed, 1);
        barrier_init_fence();
    }
    block_sync();
    if (threadIdx.x == 0) {
        barrier_arrive_expecting(landed, a_boxes * a_bytes + b_boxes * b_bytes);
        for (int i = 0; i < a_boxes; ++i) copy_box(a_at + i * a_bytes, a, landed, i * row, 0);
        for (int i = 0; i < b_boxes; ++i) copy_box(b_at + i * b_bytes, b, landed, i * row, 0);
    }
    barrier_wait(landed, 0);
    const std::uint64_t left = matrix<row_bytes>(shared_address(a_at), 8 * row_bytes, a_bytes),
                        right = matrix<row_bytes>(shared_address(b_at), 8 * row_bytes, b_bytes);
    float sum[count];
    products_fence();
    multiply_add_warpgroup<a_mn_major, b_mn_major>(sum, left, right, 0);
    products_commit();
    if (mistake == Mistake::one_warp_differs && threadIdx.x >= 96) {
        products_wait<0>();
        return;
    }
    multiply_add_warpgroup<a_mn_major, b_mn_major>(sum, left, right, 1);
    if (mistake != Mistake::no_commit) products_commit();
    if (mistake == Mistake::no_wait)
        products_wait<1>();
    else if (mistake != Mistake::left_under_way)
        products_wait<0>();
    const int thread = static_cast<int>(threadIdx.x);
    for (int i = 0; i < count; ++i)
        d[(16 * (thread / 32) + thread % 32 / 4 + 8 * (i % 4 / 2)) * columns + 8 * (i / 4) + 2 * (thread % 4) + i % 2] =
            sum[i];
    if (mistake == Mistake::no_wait) products_wait<0>();
#endif
}
#define COVER_PRODUCT(count, a_mn_major, b_mn_major, row)                                               \
    template __global__ void multiply_once<count, a_mn_major, b_mn_major, row>(float*, const TensorMap, \
                                                                               const TensorMap, Mistake);
#define COVER_PRODUCTS(count)      \
    COVER_PRODUCT(count, 0, 0, 64) \
    COVER_PRODUCT(count, 0, 0, 32) \
    COVER_PRODUCT(count, 1, 1, 32) \
    COVER_PRODUCT(count, 1, 1, 64)
COVER_PRODUCTS(16)
COVER_PRODUCTS(32)
COVER_PRODUCTS(48)
COVER_PRODUCTS(64)
COVER_PRODUCTS(96)
COVER_PRODUCT(32, 1, 0, 64)
COVER_PRODUCT(32, 0, 1, 64)
#undef COVER_PRODUCTS
#undef COVER_PRODUCT

__global__ void multiply_through_ring(float* sums, const __grid_constant__ TensorMap a,
                                      const __grid_constant__ TensorMap b, int steps, Mistake mistake) {
#if COVER_SM90A
    constexpr int stages = 2, matrix_bytes = 8192;
    COVER_SHARED_MEMORY(all);
    unsigned char* const ring = all + (1024 - shared_address(all) % 1024) % 1024;
    auto* const full = reinterpret_cast<std::uint64_t*>(ring + stages * 2 * matrix_bytes);
    auto* const empty = full + stages;
    if (threadIdx.x == 0) {
        for (int i = 0; i < stages; ++i) {
            barrier_init(full + i, 1);
            barrier_init(empty + i, 4);
        }
        barrier_init_fence();
    }
    block_sync();
    if (threadIdx.x < warpgroup) {
        if (threadIdx.x != 0) return;
        for (int step = 0; step < steps; ++step) {
            const int stage = step % stages;
            const unsigned parity = step / stages % 2;
            unsigned char* const at = ring + stage * 2 * matrix_bytes;
            if (mistake != Mistake::no_empty_wait) barrier_wait(empty + stage, parity ^ 1);
            barrier_arrive_expecting(full + stage, 2 * matrix_bytes);
            copy_box(at, a, full + stage, 0, 64 * step);
            copy_box(at + matrix_bytes, b, full + stage, 0, 64 * step);
        }
        return;
    }
    float sum[32];
    for (int step = 0; step < steps; ++step) {
        const int stage = step % stages;
        const unsigned parity = step / stages % 2;
        barrier_wait(full + stage, parity);
        const unsigned at = shared_address(ring + stage * 2 * matrix_bytes);
        const std::uint64_t left = matrix<128>(at, 1024), right = matrix<128>(at + matrix_bytes, 1024);
        products_fence();
        for (int k = 0; k < 4; ++k)
            multiply_add_warpgroup<0, 0>(sum, moved(left, 32 * k), moved(right, 32 * k), step > 0 || k > 0);
        products_commit();
        if (mistake == Mistake::early_arrival) {
            products_wait<1>();
        } else {
            products_wait<0>();
        }
        if (threadIdx.x % 32 == 0) barrier_arrive(empty + stage);
    }
    products_wait<0>();
    const int thread = static_cast<int>(threadIdx.x) - warpgroup;
    for (int i = 0; i < 32; ++i)
        sums[(16 * (thread / 32) + thread % 32 / 4 + 8 * (i % 4 / 2)) * 64 + 8 * (i / 4) + 2 * (thread % 4) + i % 2] =
            sum[i];
#endif
}

__global__ void reverse_warpgroups(int* out, const int* in, Mistake mistake) {
#if COVER_SM90A
    Shared shared;
    int* const tile = shared.take<int>(2 * warpgroup);
    const int thread = static_cast<int>(threadIdx.x), group = thread / warpgroup, place = thread % warpgroup;
    for (int round = 0; round < 3; ++round) {
        tile[thread] = in[thread] + round;
        if (mistake != Mistake::no_sync) warpgroup_sync(mistake == Mistake::shared_number ? 1 : 1 + group);
        out[thread] = tile[group * warpgroup + warpgroup - 1 - place] - round;
        if (mistake != Mistake::no_sync) warpgroup_sync(mistake == Mistake::shared_number ? 1 : 1 + group);
    }
#endif
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
