// What every .cu file includes, and nothing else of CUDA: launches, thread indices, barriers, collectives, shared
// memory, asynchronous copies and matrix instructions, under one set of names. nvcc takes them from native.h; the host
// compiler takes them from the emulation, in which each CUDA thread is a fiber. Everything that a .cu file defines
// lives in cover::cuda::COVER_CUDA_BUILD, so that the two builds of one source cannot meet in one program.
#pragma once

#if defined(__CUDACC__)
#define COVER_CUDA_BUILD native
#include "kernels/cuda/native.h"
#else
#define COVER_CUDA_BUILD emulated
#include "kernels/emulation/emulated.h"
#endif

#include "core/tensor.h"

namespace cover::cuda::COVER_CUDA_BUILD {

inline constexpr unsigned threads_per_block = 256;

// Blocks of `threads` that cover `count` items; the large index goes on grid.x.
inline unsigned blocks_for(std::int64_t count, std::int64_t threads = threads_per_block) {
    const std::int64_t blocks = (count + threads - 1) / threads;
    require(blocks < (std::int64_t{1} << 31), ErrorKind::device, "[cuda] a grid of ", blocks,
            " blocks is too large; use a smaller batch or patch");
    return static_cast<unsigned>(blocks);
}

// The thread's place in a one-dimensional grid, and the number of its threads.
__device__ inline std::int64_t global_thread() {
    return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

// Scratch of `count` elements of T on the stream's device, undefined at first; given back when it goes out of scope,
// which on a CUDA stream is safe: later work that takes the same memory runs after this.
template <class T>
class Workspace {
public:
    Workspace(std::int64_t count, const Stream& stream)
        : storage_(Storage::allocate(sizeof(T) * static_cast<std::size_t>(count > 0 ? count : 1), stream.device)) {}
    T* data() { return static_cast<T*>(storage_->data()); }

private:
    std::shared_ptr<Storage> storage_;
};

}  // namespace cover::cuda::COVER_CUDA_BUILD
