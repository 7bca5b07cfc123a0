// What Hopper alone has (sm_90a), under names of our own, each one instruction: mbarriers, tiled copies by the tensor
// memory accelerator (TMA), products by a warpgroup of four warps (wgmma), and registers handed between warpgroups.
// nvcc takes them from hopper_native.h, the host compiler from the emulation. Where COVER_SM90A is 0, nvcc compiles for
// another target: there is none of it, and kernels that use it are empty and never launched.
#pragma once

#include "kernels/cuda/runtime.h"

#if defined(__CUDACC__)
#include "kernels/cuda/hopper_native.h"
#else
#include "kernels/emulation/hopper.h"
#endif

namespace cover::cuda::COVER_CUDA_BUILD::hopper {

inline constexpr int warpgroup = 128;  // threads

#if COVER_SM90A

// A matrix of bfloat16 in shared memory, in rows of 128 or 64 bytes whose 16-byte pieces are swizzled as the TMA leaves
// them, by the address alone: of rows of 128 bytes, piece c of the row at address a lies at c ^ (a / 128 % 8); of rows
// of 64 bytes, at c ^ (a / 128 % 4).
//   K-major (rows along M or N, the depth within a row): `stride` bytes lead from eight rows to the next eight,
//   `leading` is not read; the next 16 of the depth are 32 bytes on. MN-major (rows along the depth, M or N within a
//   row): `stride` leads from eight rows to the next eight, `leading` from one row's worth of M or N to the next; the
//   next 16 of the depth are two strides on.
template <int row_bytes>
__device__ std::uint64_t matrix(unsigned address, unsigned stride, unsigned leading = 16) {
    static_assert(row_bytes == 128 || row_bytes == 64);
    return (address & 0x3ffffu) >> 4 | static_cast<std::uint64_t>(leading >> 4) << 16 |
           static_cast<std::uint64_t>(stride >> 4) << 32 | std::uint64_t{row_bytes == 128 ? 1 : 2} << 62;
}

// The same matrix `bytes` further on.
__device__ inline std::uint64_t moved(std::uint64_t matrix, unsigned bytes) { return matrix + (bytes >> 4); }

#endif  // COVER_SM90A

}  // namespace cover::cuda::COVER_CUDA_BUILD::hopper
