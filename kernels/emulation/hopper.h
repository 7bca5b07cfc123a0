// The names of hopper.h for the host compiler. A barrier's place in shared memory holds a number by which the runtime
// knows it, so that a place that was not initialised, or was overwritten, is found when it is used.
//
// The emulation is late wherever a GPU may be: a box lands when no thread can go on, products are carried out at the
// wait that they may not pass, and what is under way reads as 0xFF.
#pragma once

#include <bit>

#include "core/check.h"
#include "kernels/emulation/emulated.h"
#include "kernels/emulation/hopper_execution.h"
#include "kernels/emulation/intrinsics.h"

#define __grid_constant__
#define COVER_SHARED_MEMORY(name) \
    unsigned char* const name = static_cast<unsigned char*>(::cover::cuda::emulated::all_of_shared())
#define COVER_SM90A 1

namespace cover::cuda::emulated::hopper {

using TensorMap = BoxedTensor;
using Where = std::source_location;

inline unsigned shared_address(const void* shared, const Where& where = Where::current()) {
    return shared_offset(shared, where);
}
inline int read_thread_index() { return static_cast<int>(threadIdx.x); }

inline void barrier_init(std::uint64_t* barrier, unsigned arrivals, const Where& where = Where::current()) {
    *barrier = begin_barrier(barrier, arrivals, where);
}
inline void barrier_init_fence() {}
inline void barrier_arrive(std::uint64_t* barrier, const Where& where = Where::current()) {
    arrive(*barrier, 0, where);
}
inline void barrier_arrive_expecting(std::uint64_t* barrier, unsigned bytes, const Where& where = Where::current()) {
    arrive(*barrier, bytes, where);
}
inline void barrier_wait(std::uint64_t* barrier, unsigned parity, int = -1, const Where& where = Where::current()) {
    wait_for_phase(*barrier, parity, where);
}

inline void prefetch_map(const TensorMap&) {}
inline void copy_box(void* shared, const TensorMap& map, std::uint64_t* barrier, int c0, int c1,
                     const Where& where = Where::current()) {
    begin_box(shared, map, *barrier, 2, {c0, c1}, where);
}
inline void copy_box(void* shared, const TensorMap& map, std::uint64_t* barrier, int c0, int c1, int c2, int c3, int c4,
                     const Where& where = Where::current()) {
    begin_box(shared, map, *barrier, 5, {c0, c1, c2, c3, c4}, where);
}

inline void shared_memory_fence() {}
inline void warpgroup_sync(int number, const Where& where = Where::current()) { wait_for_warpgroup(number, where); }

template <int registers>
void registers_decrease() {}
template <int registers>
void registers_increase() {}

inline void products_fence() {}
inline void products_commit() { commit_products(); }
template <int pending>
void products_wait(const Where& where = Where::current()) {
    complete_products(pending, where);
}
template <int a_mn_major, int b_mn_major, std::size_t count>
void multiply_add_warpgroup(float (&d)[count], std::uint64_t a, std::uint64_t b, int accumulate,
                            const Where& where = Where::current()) {
    static_assert(count == 16 || count == 32 || count == 48 || count == 64 || count == 96);
    begin_product({d, count, a, b, accumulate != 0, a_mn_major != 0, b_mn_major != 0}, where);
}
inline unsigned round_pair(float low, float high) { return round_bf16x2(low, high); }

// Few, so that each block has several tiles, as on a GPU those of a large image have.
inline int multiprocessors() { return 2; }

template <std::size_t rank>
TensorMap tensor_map(const void* data, const std::array<std::int64_t, rank>& sides, const std::array<int, rank>& box) {
    TensorMap map{static_cast<const std::uint16_t*>(data), static_cast<int>(rank), {}, {}};
    bool good = std::bit_cast<std::uintptr_t>(data) % 16 == 0 && data && (box[0] == 64 || box[0] == 32);
    std::int64_t bytes = 2;
    for (std::size_t i = 0; i < rank; ++i) {
        map.sides[i] = sides[i];
        map.box[i] = box[i];
        good = good && sides[i] >= 1 && sides[i] <= std::int64_t{1} << 32 && box[i] >= 1 && box[i] <= 256;
        bytes *= sides[i];
        good = good && (i + 1 == rank || bytes % 16 == 0);
    }
    require(good, ErrorKind::device,
            "[emulated] the TMA would refuse this tensor: its address must be a multiple of 16, each side's bytes too, "
            "a box 1 to 256 wide, along the innermost axis 64 or 32");
    return map;
}

}  // namespace cover::cuda::emulated::hopper
