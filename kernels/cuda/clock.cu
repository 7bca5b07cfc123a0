#include <vector>

#include "kernels/cuda/device.h"

namespace cover::cuda::native {
namespace {

// Kept until the program ends, when the driver takes them back.
std::vector<cudaEvent_t> events;

}  // namespace

void mark(std::size_t slot) {
    while (events.size() <= slot) {
        cudaEvent_t event = nullptr;
        COVER_CUDA_CALL(cudaEventCreate(&event));
        events.push_back(event);
    }
    COVER_CUDA_CALL(cudaEventRecord(events[slot], static_cast<cudaStream_t>(device_stream())));
}

double seconds_between(std::size_t from, std::size_t to) {
    require(from < events.size() && to < events.size(), ErrorKind::internal, "[cuda] a moment that was never marked");
    COVER_CUDA_CALL(cudaEventSynchronize(events[from]));
    COVER_CUDA_CALL(cudaEventSynchronize(events[to]));
    float milliseconds = 0;
    COVER_CUDA_CALL(cudaEventElapsedTime(&milliseconds, events[from], events[to]));
    return 1e-3 * static_cast<double>(milliseconds);
}

}  // namespace cover::cuda::native
