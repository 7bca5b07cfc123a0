// CUDA's vector types as <vector_types.h> lays them out. They are aligned as the GPU wants them, so that the
// undefined-behaviour sanitizer sees a misaligned vector load.
#pragma once

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct uint3 {
    unsigned x, y, z;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

// Always inlined: nvcc's own are weak symbols of the same names, and a program may hold both builds.
#define COVER_INLINED [[gnu::always_inline]] constexpr

struct dim3 {
    unsigned x, y, z;
    COVER_INLINED dim3(unsigned width = 1, unsigned height = 1, unsigned depth = 1) : x(width), y(height), z(depth) {}
};

COVER_INLINED float2 make_float2(float x, float y) { return {x, y}; }
COVER_INLINED float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
COVER_INLINED int2 make_int2(int x, int y) { return {x, y}; }
COVER_INLINED int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
COVER_INLINED uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
COVER_INLINED uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
COVER_INLINED uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

#undef COVER_INLINED
