// Marks what both host and device code may call: nothing for the host compiler.
#pragma once

#if defined(__CUDACC__)
#define COVER_HOST_DEVICE __host__ __device__
#else
#define COVER_HOST_DEVICE
#endif
