// CUDA's functions of one instruction under CUDA's names, of which kernels for Hopper alone make use. Always inlined,
// for the reason in vector_types.h.
#pragma once

#include <math.h>  // fmaf, fmaxf outside of std, as CUDA has them

#include <bit>

#define COVER_INLINED [[gnu::always_inline]] inline

COVER_INLINED float __uint_as_float(unsigned bits) { return std::bit_cast<float>(bits); }
COVER_INLINED int __popc(unsigned bits) { return std::popcount(bits); }
// A GPU's are up to two units in the last place away.
COVER_INLINED float __fdividef(float a, float b) { return a / b; }
// Rounded on their own; the host's compiler is not told of an instruction that it could make of one and an addition.
COVER_INLINED float __fmul_rn(float a, float b) { return a * b; }
COVER_INLINED float __fsub_rn(float a, float b) { return a - b; }
template <class T>
COVER_INLINED T __ldg(const T* at) {
    return *at;
}

#undef COVER_INLINED
