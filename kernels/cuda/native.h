// The names of runtime.h for nvcc: thin wrappers, each one instruction or one call of the CUDA runtime.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <source_location>

#include "core/device.h"
#include "kernels/variant.h"

namespace cover::cuda::native {

inline constexpr Device this_device = Device::cuda;
inline constexpr unsigned full_warp = 0xffffffffu;

// Throws Error(device) that names the statement, the file and the line unless the call succeeded.
void require_success(cudaError_t result, const char* statement,
                     std::source_location where = std::source_location::current());

#define COVER_CUDA_CALL(statement) ::cover::cuda::native::require_success(statement, #statement)

// The name of a launch, and the line that launches.
struct LaunchSite {
    const char* name;
    std::source_location where;

    LaunchSite(const char* of, std::source_location at = std::source_location::current()) : name(of), where(at) {}
};

// Every kernel starts here. `shared_bytes`: what its Shared will cut up. The arguments are converted to the kernel's
// parameter types; the call returns when the launch is queued.
template <class... Parameters, class... Arguments>
void launch(Stream& stream, LaunchSite site, dim3 grid, dim3 block, std::size_t shared_bytes,
            void (*kernel)(Parameters...), const Arguments&... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments));
    if (shared_bytes > 48 * 1024)
        require_success(
            cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                 static_cast<int>(shared_bytes)),
            site.name, site.where);
    [&](Parameters... values) {
        void* pointers[] = {const_cast<void*>(static_cast<const void*>(&values))...};
        require_success(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), grid, block, pointers, shared_bytes,
                                         static_cast<cudaStream_t>(stream.native)),
                        site.name, site.where);
    }(static_cast<Parameters>(arguments)...);
}

// Cuts typed, aligned pieces out of the block's dynamic shared memory, in the order of the calls, which is the same in
// every thread.
class Shared {
public:
    __device__ Shared() {
        extern __shared__ __align__(128) unsigned char cover_shared_memory[];
        next_ = cover_shared_memory;
    }
    template <class T>
    __device__ T* take(std::int64_t count) {
        T* piece = reinterpret_cast<T*>(next_);
        next_ += shared_bytes_of<T>(count);
        return piece;
    }
    // What take() uses of the launch's shared_bytes: each piece is rounded up to 16 bytes.
    template <class T>
    __host__ __device__ static constexpr std::size_t shared_bytes_of(std::int64_t count) {
        return (static_cast<std::size_t>(count) * sizeof(T) + 15) / 16 * 16;
    }

private:
    unsigned char* next_;
};

__device__ inline void block_sync() { __syncthreads(); }
__device__ inline void warp_sync(unsigned mask = full_warp) { __syncwarp(mask); }
template <class T>
__device__ T shuffle(T value, int lane, unsigned mask = full_warp) {
    return __shfl_sync(mask, value, lane);
}
template <class T>
__device__ T shuffle_down(T value, unsigned delta, unsigned mask = full_warp) {
    return __shfl_down_sync(mask, value, delta);
}
template <class T>
__device__ T shuffle_xor(T value, int lanes, unsigned mask = full_warp) {
    return __shfl_xor_sync(mask, value, lanes);
}
__device__ inline unsigned ballot(bool vote, unsigned mask = full_warp) { return __ballot_sync(mask, vote); }

// For counters alone: the order of whole numbers added does not show in their sum. Returns the value before.
__device__ inline int atomic_add(int* at, int value) { return atomicAdd(at, value); }

// 16 bytes from global to shared memory, both aligned to 16; zeros where `wanted` is false. Visible to the thread after
// copy_wait, to the block after a block_sync behind that.
__device__ inline void copy_async_16(void* shared, const void* global, bool wanted = true) {
    const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    const int bytes = wanted ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}
// Closes the group of copies asked for since the last commit.
__device__ inline void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `pending` of this thread's groups are under way.
template <int pending>
__device__ void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Four 8x8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned), and
// gets elements (l / 4, 2 (l % 4)) and the next of each.
__device__ inline void load_matrix_x4(unsigned (&fragment)[4], const void* row) {
    const auto from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(from)
                 : "memory");
}
// The same of the transposed matrices: lane l gets elements (2 (l % 4), l / 4) and (2 (l % 4) + 1, l / 4).
__device__ inline void load_matrix_x4_transposed(unsigned (&fragment)[4], const void* row) {
    const auto from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                 : "r"(from)
                 : "memory");
}
// Two matrices, of whose rows lanes 0 to 15 give the addresses.
__device__ inline void load_matrix_x2_transposed(unsigned (&fragment)[2], const void* row) {
    const auto from = static_cast<unsigned>(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(fragment[0]), "=r"(fragment[1])
                 : "r"(from)
                 : "memory");
}

// d += a b on a warp's fragments. a (16 x 16) and b (16 x 8) bfloat16, d (16 x 8) float32: lane l holds of d the
// elements (l / 4, 2 (l % 4)), the next, and the two eight rows below.
__device__ inline void multiply_add_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// a (16 x 8) and b (8 x 8) float32 rounded by round_tf32. Lane l holds of a (l / 4, l % 4), (l / 4 + 8, l % 4),
// (l / 4, l % 4 + 4), (l / 4 + 8, l % 4 + 4), of b (l % 4, l / 4) and (l % 4 + 4, l / 4), of d as above.
__device__ inline void multiply_add_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Two float32 to nearest even as bfloat16, `low` in the lower half.
__device__ inline unsigned round_bf16x2(float low, float high) {
    unsigned rounded;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(rounded) : "f"(high), "f"(low));
    return rounded;
}
// The larger and the smaller of each of two bfloat16; a number rather than a NaN.
__device__ inline unsigned max_bf16x2(unsigned a, unsigned b) {
    unsigned larger;
    asm("max.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
}
__device__ inline unsigned min_bf16x2(unsigned a, unsigned b) {
    unsigned smaller;
    asm("min.bf16x2 %0, %1, %2;" : "=r"(smaller) : "r"(a), "r"(b));
    return smaller;
}
// Ten bits of fraction, to nearest, ties away from zero.
__device__ inline unsigned round_tf32(float value) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}

}  // namespace cover::cuda::native
