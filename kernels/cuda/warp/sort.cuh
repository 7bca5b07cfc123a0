// Sorting a list of whole numbers by one thread. Included by warp.cu alone.
#pragma once

#include <limits>

#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD::warp {

constexpr int few = 8;

// Up to `few` numbers, in registers.
__device__ void sort_few(int* ids, int count) {
    int own[few];
#pragma unroll
    for (int k = 0; k < few; ++k) own[k] = k < count ? ids[k] : std::numeric_limits<int>::max();
#pragma unroll
    for (int run = 2; run <= few; run *= 2)
#pragma unroll
        for (int distance = run / 2; distance > 0; distance /= 2)
#pragma unroll
            for (int k = 0; k < few; ++k) {
                if ((k & distance) != 0) continue;
                const int a = own[k], b = own[k + distance], least = a < b ? a : b, most = a < b ? b : a;
                own[k] = (k & run) == 0 ? least : most;
                own[k + distance] = (k & run) == 0 ? most : least;
            }
#pragma unroll
    for (int k = 0; k < few; ++k)
        if (k < count) ids[k] = own[k];
}

__device__ void insertion_sort(int* ids, int count) {
    for (int end = 1; end < count; ++end) {
        const int id = ids[end];
        int at = end;
        for (; at > 0 && ids[at - 1] > id; --at) ids[at] = ids[at - 1];
        ids[at] = id;
    }
}

// Restores the heap (parents are not smaller than their children) below `at`.
__device__ void sift_down(int* ids, int at, int count) {
    const int id = ids[at];
    while (at < count / 2) {
        int child = 2 * at + 1;
        if (child + 1 < count && ids[child + 1] > ids[child]) ++child;
        if (ids[child] <= id) break;
        ids[at] = ids[child];
        at = child;
    }
    ids[at] = id;
}

__device__ void heap_sort(int* ids, int count) {
    for (int at = count / 2 - 1; at >= 0; --at) sift_down(ids, at, count);
    for (int end = count - 1; end > 0; --end) {
        const int largest = ids[0];
        ids[0] = ids[end];
        ids[end] = largest;
        sift_down(ids, 0, end);
    }
}

__device__ void sort(int* ids, int count) {
    if (count < 2) return;
    if (count <= few)
        sort_few(ids, count);
    else if (count <= 32)
        insertion_sort(ids, count);
    else
        heap_sort(ids, count);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::warp
