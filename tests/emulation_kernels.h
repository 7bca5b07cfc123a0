// Small kernels that hold the emulation to plain computations, and wrong ones that it must find.
#pragma once

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {

constexpr int block_threads = 128;

// out[thread, numbered through the whole grid] = its indices, packed by six bits each.
__global__ void write_indices(std::int64_t* out);
// turn[thread] = how many threads of its block came before it.
__global__ void note_turns(int* turn, int* counters);
// The same behind a block_sync and a shuffle.
__global__ void note_turns_after_waits(int* turn, int* counters);

// Per thread: shuffle from `lane`, shuffle_down and shuffle_xor by `delta`, ballot of bit 0, of the values in `in`.
template <class T>
__global__ void exchange(T* out, unsigned* votes, const T* in, int lane, int delta);
// Lanes below 12 and the others go through different branches, each with its own mask: out = the sum of each part.
__global__ void sum_in_branches(int* out, const int* in);
// out[thread] = in[31 - lane] of the warp, through shared memory.
__global__ void reverse_warps(int* out, const int* in, bool with_sync);
// out[block] = the sum of block_threads values.
__global__ void sum_blocks(float* out, const float* in, bool with_barrier);
// As many copies of 16 bytes as there are threads, in `stages` groups that are under way together; bytes past `wanted`
// floats arrive as zeros. out[i] = 2 in[i].
template <bool with_wait>
__global__ void double_through_copies(float* out, const float* in, int stages, std::int64_t wanted);
// Copies everything in one group that is waited for without a commit.
__global__ void wait_without_commit(float* out, const float* in);

// d = a b of row-major matrices by one warp: operands through load_matrix_x4 and load_matrix_x2_transposed.
__global__ void multiply_bf16(float* d, const bfloat16* a, const bfloat16* b);
__global__ void multiply_tf32(float* d, const float* a, const float* b);
// Lane l writes its four fragments to out[4 l].
__global__ void load_fragments(unsigned* out, const bfloat16* matrices, bool transposed);

// Wrong ones.
__global__ void shuffle_in_a_branch(int* out);
__global__ void return_before_block_sync(int* out);
__global__ void sync_at_two_places(int* out);
__global__ void two_collectives(int* out);
__global__ void one_collective_at_two_places(int* out);
__global__ void mask_without_itself(int* out);
__global__ void exited_lane_in_mask(int* out);
__global__ void take_two_tiles(float* out);
__global__ void take_by_thread(float* out);
__global__ void write_past_tile(float* out);
__global__ void copy_past_tile(const float* in);
__global__ void copy_off_alignment(const float* in);
// Every thread holds an object whose destructor adds one to `destroyed`; thread 5 of block 2 throws, the others wait.
__global__ void throw_in_thread_five(int* destroyed);
// Thread 0 throws; the others catch what ends their wait, and wait again.
__global__ void catch_and_wait_again(int* out);
__global__ void launch_inside(Stream* stream);

}  // namespace cover::cuda::COVER_CUDA_BUILD
