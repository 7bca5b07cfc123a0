// What this machine reaches with nothing in the way: the yardsticks of `bench ops`, measured in the same run.
#pragma once

#include "kernels/variant.h"

namespace cover::app {

// GFLOP/s of independent fused multiply-adds that never leave the registers, with the widest float32 vectors that
// `facts` allows, on every thread of the stream.
double fma_peak_gflops(Stream& stream);

// GB/s (read and written) over blocks far larger than the caches: the faster of copying one into another, which also
// reads the lines that it overwrites without that being counted, and of adding one to another in place, where nothing
// is uncounted.
double memory_peak_gigabytes(Stream& stream);

}  // namespace cover::app
