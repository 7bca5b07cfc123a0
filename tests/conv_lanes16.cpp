// The sixteen-lane inner loops compiled for whatever the build's baseline is: their logic is the AVX-512 row's.
#define COVER_ISA_NAMESPACE lanes16
#define COVER_ISA_LANES 16
#include "kernels/cpu/conv_simd.h"

namespace cover::test {
extern const cpu::ConvKernels conv_kernels_lanes16;
const cpu::ConvKernels conv_kernels_lanes16 = cpu::lanes16::conv_kernels_here;
}  // namespace cover::test
