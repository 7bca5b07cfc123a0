// The names of native.h for the host compiler: each CUDA thread is a fiber, each block runs on one OS thread. What
// waits for other threads ends with the place of the call, which the caller leaves out.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <source_location>
#include <tuple>
#include <type_traits>

#include "core/check.h"
#include "core/device.h"
#include "core/dtype.h"
#include "kernels/emulation/execution.h"
#include "kernels/emulation/vector_types.h"
#include "kernels/variant.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

namespace cover::cuda::emulated {

inline constexpr Device this_device = Device::emulated;
inline constexpr unsigned full_warp = 0xffffffffu;

// Returns when the kernel is done.
template <class... Parameters, class... Arguments>
void launch(Stream& stream, const char* name, dim3 grid, dim3 block, std::size_t shared_bytes,
            void (*kernel)(Parameters...), const Arguments&... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments));
    static_assert((!std::is_reference_v<Parameters> && ...), "a kernel takes its parameters by value");
    const std::tuple<Parameters...> values(static_cast<Parameters>(arguments)...);
    const auto thread = [&] { std::apply(kernel, values); };
    run_grid(stream, {name, grid, block, shared_bytes},
             {[](const void* context) { (*static_cast<decltype(thread)*>(context))(); }, &thread});
}

// Pieces are new in every block, filled with 0xFF (NaN as a float) and fenced: the address sanitizer reports an access
// next to one, and without it a write there is an error when the block ends.
class Shared {
public:
    template <class T>
    T* take(std::int64_t count) {
        static_assert(alignof(T) <= 16 && std::is_trivially_copyable_v<T>);
        return static_cast<T*>(
            shared_piece(next_++, static_cast<std::size_t>(count) * sizeof(T), shared_bytes_of<T>(count)));
    }
    template <class T>
    static constexpr std::size_t shared_bytes_of(std::int64_t count) {
        return (static_cast<std::size_t>(count) * sizeof(T) + 15) / 16 * 16;
    }

private:
    int next_ = 0;
};

inline void block_sync(const std::source_location& where = std::source_location::current()) { wait_for_block(where); }
inline void warp_sync(unsigned mask = full_warp, const std::source_location& where = std::source_location::current()) {
    meet(Collective::warp_sync, mask, nullptr, where);
}

namespace detail {
template <class T>
T exchange(Collective collective, T value, int argument, unsigned mask, const std::source_location& where) {
    static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "CUDA shuffles 4 or 8 bytes");
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    ShuffleOperand operand{std::bit_cast<Bits>(value), argument, 0};
    meet(collective, mask, &operand, where);
    return std::bit_cast<T>(static_cast<Bits>(operand.result));
}
}  // namespace detail

// A lane that reads from one that the mask does not name gets 0xFF in every byte.
template <class T>
T shuffle(T value, int lane, unsigned mask = full_warp,
          const std::source_location& where = std::source_location::current()) {
    return detail::exchange(Collective::shuffle, value, lane, mask, where);
}
template <class T>
T shuffle_down(T value, unsigned delta, unsigned mask = full_warp,
               const std::source_location& where = std::source_location::current()) {
    return detail::exchange(Collective::shuffle_down, value, static_cast<int>(delta), mask, where);
}
template <class T>
T shuffle_xor(T value, int lanes, unsigned mask = full_warp,
              const std::source_location& where = std::source_location::current()) {
    return detail::exchange(Collective::shuffle_xor, value, lanes, mask, where);
}
inline unsigned ballot(bool vote, unsigned mask = full_warp,
                       const std::source_location& where = std::source_location::current()) {
    BallotOperand operand{vote, 0};
    meet(Collective::ballot, mask, &operand, where);
    return operand.result;
}

inline int atomic_add(int* at, int value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }

// Reads and writes of copies and matrices stand in this header, so that the sanitizers see them as the kernel's own.

inline void copy_async_16(void* shared, const void* global, bool wanted = true) {
    begin_copy(shared, global, wanted);
    // A bad source is reported here rather than at the wait.
    if (wanted) static_cast<void>(*static_cast<const volatile unsigned*>(global));
    // Until the wait a GPU may have either contents there.
    *static_cast<uint4*>(shared) = {~0u, ~0u, ~0u, ~0u};
}
inline void copy_commit() { commit_copies(); }
template <int pending>
void copy_wait() {
    static_assert(pending >= 0);
    while (const Copy* copy = next_completed_copy(pending))
        *static_cast<uint4*>(copy->shared) = copy->global ? *static_cast<const uint4*>(copy->global) : uint4{};
}

namespace detail {
inline unsigned lane_of_thread() {
    return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warp_size;
}
// A lane reads its own row when it arrives: a missing warp_sync before that shows.
template <unsigned count>
void load_matrices(Collective collective, unsigned (&fragment)[count], const void* row,
                   const std::source_location& where) {
    MatrixOperand operand{};
    if (lane_of_thread() < 8 * count) operand.row = *static_cast<const uint4*>(row);
    meet(collective, full_warp, &operand, where);
    for (unsigned matrix = 0; matrix < count; ++matrix) fragment[matrix] = operand.fragment[matrix];
}
}  // namespace detail

inline void load_matrix_x4(unsigned (&fragment)[4], const void* row,
                           const std::source_location& where = std::source_location::current()) {
    detail::load_matrices(Collective::load_matrix_x4, fragment, row, where);
}
inline void load_matrix_x4_transposed(unsigned (&fragment)[4], const void* row,
                                      const std::source_location& where = std::source_location::current()) {
    detail::load_matrices(Collective::load_matrix_x4_transposed, fragment, row, where);
}
inline void load_matrix_x2_transposed(unsigned (&fragment)[2], const void* row,
                                      const std::source_location& where = std::source_location::current()) {
    detail::load_matrices(Collective::load_matrix_x2_transposed, fragment, row, where);
}

// Products are exact, sums are float32 in order of k; a GPU rounds its sums in its own way.
inline void multiply_add_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                              const std::source_location& where = std::source_location::current()) {
    MultiplyAddOperand operand{d, a, b};
    meet(Collective::multiply_add_bf16, full_warp, &operand, where);
}
inline void multiply_add_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                              const std::source_location& where = std::source_location::current()) {
    MultiplyAddOperand operand{d, a, b};
    meet(Collective::multiply_add_tf32, full_warp, &operand, where);
}
inline unsigned round_bf16x2(float low, float high) {
    return bfloat16(low).bits | static_cast<unsigned>(bfloat16(high).bits) << 16;
}
namespace detail {
template <class Choose>
unsigned each_bf16(unsigned a, unsigned b, const Choose& choose) {
    const auto high = [](unsigned word) { return std::bit_cast<float>(word & 0xffff0000u); };
    return std::bit_cast<unsigned>(choose(high(a), high(b))) |
           std::bit_cast<unsigned>(choose(high(a << 16), high(b << 16))) >> 16;
}
}  // namespace detail
inline unsigned max_bf16x2(unsigned a, unsigned b) {
    return detail::each_bf16(a, b, [](float x, float y) { return std::fmax(x, y); });
}
inline unsigned min_bf16x2(unsigned a, unsigned b) {
    return detail::each_bf16(a, b, [](float x, float y) { return std::fmin(x, y); });
}
inline unsigned round_tf32(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if ((bits & 0x7f800000u) == 0x7f800000u)  // infinity stays, every NaN becomes the GPU's one
        return (bits & 0x007fffffu) ? 0x7fffffffu : bits;
    return (bits + 0x1000u) & ~0x1fffu;
}

}  // namespace cover::cuda::emulated
