// The names of hopper.h for nvcc: thin wrappers, each one instruction or one call of the CUDA runtime.
#pragma once

#include <cuda.h>
#include <cudaTypedefs.h>

#include <array>

#include "kernels/cuda/native.h"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define COVER_SM90A 1
#else
#define COVER_SM90A 0
#endif

// Declares the block's dynamic shared memory, for kernels that have no Shared. It begins at a multiple of 128 bytes;
// the swizzles repeat after 1,024.
#define COVER_SHARED_MEMORY(name) extern __shared__ __align__(128) unsigned char name[]

namespace cover::cuda::native::hopper {

using TensorMap = CUtensorMap;

#if defined(COVER_BARRIER_TIMEOUT)
__device__ unsigned* barrier_report;
#endif

#if COVER_SM90A

__device__ inline unsigned shared_address(const void* shared) {
    return static_cast<unsigned>(__cvta_generic_to_shared(shared));
}
// threadIdx.x read where it is needed: kept in a register from the start of a kernel, with all that follows from it, it
// would push something else out.
__device__ inline int read_thread_index() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

// A barrier in shared memory. Its phase ends when `arrivals` threads have arrived and all bytes that they announced
// have landed; phases have parity 0, 1, 0, ... A wait for the phase of a parity returns once that phase has ended, so
// that a wait for parity 1 on a new barrier returns at once.
__device__ inline void barrier_init(std::uint64_t* barrier, unsigned arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// Shows new barriers to the TMA; a block_sync shows them to the block.
__device__ inline void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ inline void barrier_arrive(std::uint64_t* barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives and announces bytes that copies will bring.
__device__ inline void barrier_arrive_expecting(std::uint64_t* barrier, unsigned bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}
__device__ inline bool barrier_ended(std::uint64_t* barrier, unsigned parity) {
    unsigned ended;
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(ended)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
    return ended != 0;
}
#if defined(COVER_BARRIER_TIMEOUT)
// For trials: a wait that reports and stops the kernel instead of hanging.
__device__ inline void barrier_wait(std::uint64_t* barrier, unsigned parity, int what = -1) {
    const long long start = clock64();
    while (!barrier_ended(barrier, parity))
        if (clock64() - start > COVER_BARRIER_TIMEOUT) {
            barrier_report[0] = 1;
            barrier_report[1] = blockIdx.x;
            barrier_report[2] = threadIdx.x;
            barrier_report[3] = static_cast<unsigned>(what);
            barrier_report[4] = parity;
            __threadfence_system();
            __trap();
        }
}
#else
__device__ inline void barrier_wait(std::uint64_t* barrier, unsigned parity, int = -1) {
    while (!barrier_ended(barrier, parity)) {
    }
}
#endif

__device__ inline void prefetch_map(const TensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<std::uint64_t>(&map)) : "memory");
}
// Copies the box of the map at (c0, c1, ...), the innermost axis first; zeros where it hangs over the tensor, which is
// allowed on either side. All its bytes count on the barrier.
__device__ inline void copy_box(void* shared, const TensorMap& map, std::uint64_t* barrier, int c0, int c1) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
            shared_address(shared)),
        "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(shared_address(barrier)), "r"(c0), "r"(c1)
        : "memory");
}
__device__ inline void copy_box(void* shared, const TensorMap& map, std::uint64_t* barrier, int c0, int c1, int c2,
                                int c3, int c4) {
    asm volatile(
        "cp.async.bulk.tensor.5d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6, %7}], "
        "[%2];" ::"r"(shared_address(shared)),
        "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3),
        "r"(c4)
        : "memory");
}

// Before products or the TMA touch shared memory that this thread has written or read: those go another way than loads
// and stores, which a barrier alone orders. Each thread that wrote calls it, then arrives.
__device__ inline void shared_memory_fence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
// A barrier of the threads of one warpgroup; each has a number of its own, 1 to 15.
__device__ inline void warpgroup_sync(int number) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "n"(128) : "memory");
}

// Registers per thread of this warpgroup from here on: given back, or taken from what others gave.
template <int registers>
__device__ void registers_decrease() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ void registers_increase() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// Before the first product, and before one whose accumulators other instructions have touched.
__device__ inline void products_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most `pending` of the committed groups are under way.
template <int pending>
__device__ void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// d = a b, or d += a b where `accumulate`: a (64 x 16) and b (16 x columns) bfloat16 in shared memory, MN-major where
// said. Thread t of the warpgroup holds in d[4 j + e] the element of row 16 (t / 32) + t % 32 / 4 + 8 (e / 2), column
// 8 j + 2 (t % 4) + e % 2.
#define COVER_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define COVER_D16(i) COVER_D4(i), COVER_D4(i + 4), COVER_D4(i + 8), COVER_D4(i + 12)
template <int a_mn_major, int b_mn_major>
__device__ void multiply_add_warpgroup(float (&d)[16], std::uint64_t a, std::uint64_t b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, %16, %17, p, 1, 1, %19, %20;\n}"
        : COVER_D16(0)
        : "l"(a), "l"(b), "r"(accumulate), "n"(a_mn_major), "n"(b_mn_major));
}
template <int a_mn_major, int b_mn_major>
__device__ void multiply_add_warpgroup(float (&d)[32], std::uint64_t a, std::uint64_t b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,"
        "%28,%29,%30,%31}, %32, %33, p, 1, 1, %35, %36;\n}"
        : COVER_D16(0), COVER_D16(16)
        : "l"(a), "l"(b), "r"(accumulate), "n"(a_mn_major), "n"(b_mn_major));
}
template <int a_mn_major, int b_mn_major>
__device__ void multiply_add_warpgroup(float (&d)[48], std::uint64_t a, std::uint64_t b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %50, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,"
        "%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47}, %48, %49, p, 1, 1, %51, "
        "%52;\n}"
        : COVER_D16(0), COVER_D16(16), COVER_D16(32)
        : "l"(a), "l"(b), "r"(accumulate), "n"(a_mn_major), "n"(b_mn_major));
}
template <int a_mn_major, int b_mn_major>
__device__ void multiply_add_warpgroup(float (&d)[64], std::uint64_t a, std::uint64_t b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,"
        "%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,"
        "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, p, 1, 1, %67, %68;\n}"
        : COVER_D16(0), COVER_D16(16), COVER_D16(32), COVER_D16(48)
        : "l"(a), "l"(b), "r"(accumulate), "n"(a_mn_major), "n"(b_mn_major));
}
template <int a_mn_major, int b_mn_major>
__device__ void multiply_add_warpgroup(float (&d)[96], std::uint64_t a, std::uint64_t b, int accumulate) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 "
        "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,"
        "%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,"
        "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
        "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95}, %96, %97, p, 1, 1, %99, %100;\n}"
        : COVER_D16(0), COVER_D16(16), COVER_D16(32), COVER_D16(48), COVER_D16(64), COVER_D16(80)
        : "l"(a), "l"(b), "r"(accumulate), "n"(a_mn_major), "n"(b_mn_major));
}
#undef COVER_D16
#undef COVER_D4

// Two values rounded to bfloat16, the first in the lower half.
__device__ inline unsigned round_pair(float low, float high) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
}

#endif  // COVER_SM90A

// Blocks of a persistent grid.
inline int multiprocessors() {
    static const int count = [] {
        int device = 0, found = 0;
        COVER_CUDA_CALL(cudaGetDevice(&device));
        COVER_CUDA_CALL(cudaDeviceGetAttribute(&found, cudaDevAttrMultiProcessorCount, device));
        return found;
    }();
    return count;
}

// How the TMA shall read a tensor of bfloat16: its sides and its box, innermost axis first, without gaps, the box's
// innermost side 64 or 32 elements, a row of 128 or 64 bytes that is swizzled. The encoder is the driver's, found at
// run time, so that the program starts where there is no driver.
template <std::size_t rank>
TensorMap tensor_map(const void* data, const std::array<std::int64_t, rank>& sides, const std::array<int, rank>& box) {
    static const auto encode = [] {
        void* found = nullptr;
        cudaDriverEntryPointQueryResult result{};
        COVER_CUDA_CALL(
            cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result));
        require(result == cudaDriverEntryPointSuccess && found, ErrorKind::device,
                "[cuda] the driver has no cuTensorMapEncodeTiled, which kernels for Hopper need; update it to one for "
                "CUDA 12 or later, or choose another row by --kernel");
        return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(found);
    }();
    TensorMap map{};
    cuuint64_t dims[rank], strides[rank];
    cuuint32_t boxes[rank], steps[rank];
    cuuint64_t bytes = 2;
    for (std::size_t i = 0; i < rank; ++i) {
        dims[i] = static_cast<cuuint64_t>(sides[i]);
        boxes[i] = static_cast<cuuint32_t>(box[i]);
        steps[i] = 1;
        bytes *= dims[i];
        strides[i] = bytes;  // of axis i + 1
    }
    const CUresult result =
        encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank, const_cast<void*>(data), dims, strides, boxes, steps,
               CU_TENSOR_MAP_INTERLEAVE_NONE, box[0] == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    require(result == CUDA_SUCCESS, ErrorKind::device, "[cuda] cuTensorMapEncodeTiled refused a tensor (CUresult ",
            static_cast<int>(result), "): its address must be a multiple of 16, each side's bytes too");
    return map;
}

}  // namespace cover::cuda::native::hopper
