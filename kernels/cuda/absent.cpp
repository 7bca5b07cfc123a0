// Stands in for the native CUDA rows where there is no nvcc: no rows, no device.
#include "kernels/cuda/rows.h"

namespace cover::cuda::native {

const Library& library() {
    static const Library instance;
    return instance;
}

}  // namespace cover::cuda::native
