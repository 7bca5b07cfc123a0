// Vector code of the element-wise ops, once per instruction set.
#pragma once

#include <cstdint>

namespace cover {
struct View;
struct ConstView;
struct Stream;
struct ElementwiseParams;
struct ConcatParams;
}  // namespace cover

namespace cover::cpu {

struct ElementwiseKernels {
    void (*add)(float* y, const float* a, const float* b, std::int64_t count);
    void (*scale)(float* y, const float* x, float factor, std::int64_t count, bool streaming);
    // Bits of bfloat16.
    void (*to_bfloat16)(std::uint16_t* y, const float* x, std::int64_t count);
    void (*from_bfloat16)(float* y, const std::uint16_t* x, std::int64_t count);
    // Copies `channels` of each of `pixels` rows whose starts lie to_stride and from_stride apart.
    void (*copy_rows)(float* to, std::int64_t to_stride, const float* from, std::int64_t from_stride,
                      std::int64_t pixels, std::int64_t channels, bool streaming);
};

namespace avx2 {
extern const ElementwiseKernels elementwise_kernels;
}
namespace avx512 {
extern const ElementwiseKernels elementwise_kernels;
}

void add(const ElementwiseKernels& kernels, View y, ConstView a, ConstView b, const ElementwiseParams& params,
         Stream& stream);
void scale(const ElementwiseKernels& kernels, View y, ConstView x, const ElementwiseParams& params, Stream& stream);
void cast_to_bfloat16(const ElementwiseKernels& kernels, View y, ConstView x, const ElementwiseParams& params,
                      Stream& stream);
void cast_from_bfloat16(const ElementwiseKernels& kernels, View y, ConstView x, const ElementwiseParams& params,
                        Stream& stream);
void concat(const ElementwiseKernels& kernels, View y, ConstView a, ConstView b, const ConcatParams& params,
            Stream& stream);
void split(const ElementwiseKernels& kernels, View a, View b, ConstView y, const ConcatParams& params, Stream& stream);

}  // namespace cover::cpu
