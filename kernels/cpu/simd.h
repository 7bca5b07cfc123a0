// The vector type of the CPU rows. Each *_simd.cpp is compiled once per instruction set, with COVER_ISA naming the
// namespace and COVER_LANES the widest vector of float32. Such a file defines nothing outside that namespace and calls
// no inline function of the standard library: the linker keeps one body of each weak symbol, and it could be one that
// the machine cannot run.
#pragma once

#include <cstdint>

#if !defined(COVER_ISA) || !defined(COVER_LANES)
#error "compiled once per instruction set, see kernels/cpu/CMakeLists.txt"
#endif

namespace cover::cpu::COVER_ISA {

inline constexpr int lanes = COVER_LANES;

template <int L>
struct Types {
    typedef float Float __attribute__((vector_size(4 * L)));
    typedef std::int32_t Int __attribute__((vector_size(4 * L)));
    typedef double Double __attribute__((vector_size(8 * L)));
    typedef float UnalignedFloat __attribute__((vector_size(4 * L), aligned(4), may_alias));
};
template <int L>
using Float = typename Types<L>::Float;
template <int L>
using Int = typename Types<L>::Int;
template <int L>
using Double = typename Types<L>::Double;

#define COVER_INLINE static inline __attribute__((always_inline))

template <int L>
COVER_INLINE Float<L> load(const float* p) {
    return *reinterpret_cast<const typename Types<L>::UnalignedFloat*>(p);
}
template <int L>
COVER_INLINE void store(float* p, Float<L> v) {
    *reinterpret_cast<typename Types<L>::UnalignedFloat*>(p) = v;
}
// Past the caches when `streaming`: then p is a multiple of the vector's size (inside choose_stores only). Single
// floats go the usual way.
template <int L, bool streaming>
COVER_INLINE void put(float* p, Float<L> v) {
    if constexpr (!streaming || L < 8) {
        store<L>(p, v);
    } else if constexpr (L == 8) {
        __builtin_ia32_movntps256(p, v);
#ifdef __AVX512F__
    } else if constexpr (L == 16) {
        __builtin_ia32_movntps512(p, v);
#endif
    } else {
        __builtin_ia32_movntps256(p, __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7));
        __builtin_ia32_movntps256(p + 8, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
    }
}
// Calls body.template operator()<streaming>(), and makes streamed values visible to other threads.
template <class Body>
COVER_INLINE void choose_stores(bool streaming, Body body) {
    if (streaming) {
        body.template operator()<true>();
        __builtin_ia32_sfence();
    } else {
        body.template operator()<false>();
    }
}
template <int L>
COVER_INLINE Float<L> splat(float v) {
    return v - Float<L>{};
}
template <int L>
COVER_INLINE Float<L> maximum(Float<L> a, Float<L> b) {
    return a > b ? a : b;
}
// v where positive, slope * v elsewhere. The gradient uses the same test.
template <int L>
COVER_INLINE Float<L> leaky(Float<L> v, Float<L> slope) {
    return v > 0 ? v : v * slope;
}
// The value of group norm and its activation, for all that store it and all that make it again.
template <int L>
COVER_INLINE Float<L> affine_leaky(Float<L> x, Float<L> scale, Float<L> shift, float slope) {
    return leaky<L>(x * scale + shift, splat<L>(slope));
}
template <int L>
COVER_INLINE Int<L> lane_numbers() {
    Int<L> v{};
    for (int i = 0; i < L; ++i) v[i] = i;
    return v;
}
template <int L>
COVER_INLINE Float<L> square_root(Float<L> v) {
    for (int i = 0; i < L; ++i) v[i] = __builtin_sqrtf(v[i]);  // one vector instruction with -fno-math-errno
    return v;
}
// Pairwise: lane i with lane i + L/2, and so on.
template <int L>
COVER_INLINE float horizontal_sum(Float<L> v) {
    if constexpr (L == 1) {
        return v[0];
    } else {
        constexpr int half = L / 2;
        Float<half> low, high;
        __builtin_memcpy(&low, &v, sizeof(low));
        __builtin_memcpy(&high, reinterpret_cast<const char*>(&v) + sizeof(low), sizeof(high));
        return horizontal_sum<half>(low + high);
    }
}

// exp for x <= 88, within 2 units in the last place; below -87 the result stays at exp(-87).
// exp(x) = 2^n exp(r), |r| <= ln(2)/2, exp(r) by its series to the seventh power.
template <int L>
COVER_INLINE Float<L> exponential(Float<L> x) {
    x = x < -87.0f ? splat<L>(-87.0f) : x;
    const Float<L> shifted = x * 1.44269504088896341f + 12582912.0f;  // 1.5 * 2^23: the low bits hold round(x / ln 2)
    const Float<L> n = shifted - 12582912.0f;
    const Float<L> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
    Float<L> p = splat<L>(1.0f / 5040);
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * (r * r) + r;
    p = p + 1.0f;
    const Int<L> exponent = ((Int<L>)shifted << 23) + (127 << 23);
    return p * (Float<L>)exponent;
}

// Sum of term(value) over n values, in double: lane by lane, then across.
template <class Term>
COVER_INLINE double sum_in_double(const float* values, std::int64_t n, Term term) {
    constexpr int L = lanes / 2, chains = 4;
    Double<L> sums[chains] = {};
    std::int64_t i = 0;
    for (; i + chains * L <= n; i += chains * L)
        for (int k = 0; k < chains; ++k)
            sums[k] += term(__builtin_convertvector(load<L>(values + i + k * L), Double<L>));
    const Double<L> all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
    double sum = 0;
    for (int lane = 0; lane < L; ++lane) sum += all[lane];
    for (; i < n; ++i) sum += term(double{values[i]});
    return sum;
}

// Calls body.template operator()<L>(begin, end) for runs of channels [begin, end) whose length is a multiple of L:
// first with the widest vector, then with eight lanes, then with one. Every op meets its channels through this or the
// next one, so any channel count works and multiples of 8 are fast.
template <class Body>
COVER_INLINE void for_channel_runs(std::int64_t channels, Body body) {
    const std::int64_t widest = channels / lanes * lanes, eights = channels / 8 * 8;
    if (widest > 0) body.template operator()<lanes>(0, widest);
    if (lanes > 8 && eights > widest) body.template operator()<8>(widest, eights);
    if (channels > eights) body.template operator()<1>(eights, channels);
}

// Calls body.template operator()<L>(c) for channel blocks [c, c + L) that cover [0, channels).
template <class Body>
COVER_INLINE void for_channels(std::int64_t channels, Body body) {
    for_channel_runs(
        channels, [=]<int L>(std::int64_t begin, std::int64_t end) __attribute__((always_inline)) {
            for (std::int64_t c = begin; c < end; c += L) body.template operator()<L>(c);
        });
}

}  // namespace cover::cpu::COVER_ISA
