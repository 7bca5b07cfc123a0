#define COVER_ISA_NAMESPACE avx512
#define COVER_ISA_LANES 16
#include "kernels/cpu/conv_simd.h"

namespace cover::cpu {
const ConvKernels conv_kernels_avx512 = avx512::conv_kernels_here;
}
