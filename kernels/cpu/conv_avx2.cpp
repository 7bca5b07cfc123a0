#define COVER_ISA_NAMESPACE avx2
#define COVER_ISA_LANES 8
#include "kernels/cpu/conv_simd.h"

namespace cover::cpu {
const ConvKernels conv_kernels_avx2 = avx2::conv_kernels_here;
}
