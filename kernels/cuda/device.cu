#include "core/device_memory.h"
#include "kernels/cuda/device.h"

namespace cover::cuda::native {
namespace {

cudaStream_t stream = nullptr;

void* allocate(std::size_t bytes) {
    void* block = nullptr;
    const cudaError_t result = cudaMalloc(&block, bytes);
    if (result == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();  // it is not an error of the launches to come
        return nullptr;
    }
    require_success(result, "cudaMalloc");
    return block;
}

// Storages may be released while an exception unwinds or the program ends: a failure cannot be reported from here, and
// the next call reports it.
void release(void* block) { (void)cudaFree(block); }

void copy(void* to, const void* from, std::size_t bytes) {
    COVER_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream));
    COVER_CUDA_CALL(cudaStreamSynchronize(stream));
}

void clear(void* to, std::size_t bytes) { COVER_CUDA_CALL(cudaMemsetAsync(to, 0, bytes, stream)); }

}  // namespace

void require_success(cudaError_t result, const char* statement, std::source_location where) {
    if (result == cudaSuccess) [[likely]]
        return;
    fail(ErrorKind::device,
         text("[cuda] ", statement, ": ", cudaGetErrorString(result), " (", where.file_name(), ":", where.line(), ")"));
}

DeviceFacts open_device() {
    int count = 0;
    const cudaError_t found = cudaGetDeviceCount(&count);
    require(found != cudaErrorNoDevice && found != cudaErrorInsufficientDriver && !(found == cudaSuccess && count == 0),
            ErrorKind::device, "[device] cuda: there is no CUDA device that this program can use (",
            cudaGetErrorString(found), "); take --device cpu, or look at nvidia-smi");
    require_success(found, "cudaGetDeviceCount");
    cudaDeviceProp properties{};
    COVER_CUDA_CALL(cudaGetDeviceProperties(&properties, 0));
    DeviceFacts facts;
    facts.compute_capability = 10 * properties.major + properties.minor;
    facts.shared_memory_per_block = static_cast<std::int64_t>(properties.sharedMemPerBlockOptin);
    require(facts.compute_capability >= 80, ErrorKind::device, "[device] cuda: ", properties.name,
            " has compute capability ", properties.major, ".", properties.minor,
            "; the kernels need 8.0 (A100) or later");
    if (!stream) COVER_CUDA_CALL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    set_device_memory(Device::cuda, {allocate, release, copy, clear, nullptr});
    return facts;
}

void* device_stream() { return stream; }

}  // namespace cover::cuda::native
