// Small kernels of what Hopper alone has: right ones that hold the emulation to plain computations, and wrong ones that
// it must find.
#pragma once

#include "kernels/cuda/hopper.h"

namespace cover::cuda::COVER_CUDA_BUILD {

// What a kernel leaves out or does wrong.
enum class Mistake {
    none,
    no_wait,          // for the phase that a copy ends, or for products
    wrong_parity,     // of that wait
    one_wait_more,    // for a phase that nobody ends
    two_more_arrive,  // at a barrier, before its bytes have landed
    no_init,
    two_inits,
    off_alignment,
    past_the_end,
    no_map,
    left_under_way,
    early_arrival,  // at empty, before the products that read the stage have ended
    no_empty_wait,  // before the next copy into a stage
    no_commit,
    one_warp_differs,
    shared_number,  // of two warpgroups' syncs
    no_sync,
};

// A block of 128 threads copies one box at (c0, c1) of a two-dimensional map, waits for it, and writes out the bytes as
// they lie in shared memory, in whole words of `out`.
__global__ void copy_one_box(unsigned* out, const __grid_constant__ hopper::TensorMap map, int bytes, int c0, int c1,
                             Mistake mistake);
// d (64 x 2 count), row-major, = twice a b, by one warpgroup: the product, then the product added to it. `a` (64 x 16)
// and `b` (16 x 2 count), or their transposes where they are MN-major, are brought by boxes of `row` elements.
template <int count, int a_mn_major, int b_mn_major, int row>
__global__ void multiply_once(float* d, const __grid_constant__ hopper::TensorMap a,
                              const __grid_constant__ hopper::TensorMap b, Mistake mistake);
// sums (64 x 64) = the sum of a b^T over `steps` pairs of 64 x 64 matrices of which both maps' rows consist, through a
// ring of two stages. One warp copies, one warpgroup multiplies.
__global__ void multiply_through_ring(float* sums, const __grid_constant__ hopper::TensorMap a,
                                      const __grid_constant__ hopper::TensorMap b, int steps, Mistake mistake);
inline constexpr int ring_threads = 256, ring_bytes = 1024 + 2 * 2 * 8192 + 32;
// out[thread] = in of the thread's mirror in its warpgroup, through shared memory. 256 threads.
__global__ void reverse_warpgroups(int* out, const int* in, Mistake mistake);

}  // namespace cover::cuda::COVER_CUDA_BUILD
