// What the lanes of a warp exchange when they meet: CUDA's shuffles and the fragment layouts of the PTX matrix
// instructions (PTX ISA, "Matrix Fragments for mma.m16n8k16", "... m16n8k8", "ldmatrix").
#pragma once

#include "kernels/emulation/execution.h"

namespace cover::cuda::emulated {

const char* name_of(Collective collective);

// operands[lane] of the lanes in the mask; the others are not looked at.
void exchange(Collective collective, unsigned mask, void* const* operands);

}  // namespace cover::cuda::emulated
