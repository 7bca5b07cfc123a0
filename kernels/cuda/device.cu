#include <nvtx3/nvToolsExt.h>

#include <cstring>
#include <map>
#include <mutex>

#include "core/device_memory.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::native {

template <class Word>
__global__ void fill_kernel(Word* to, Word word, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i < count) to[i] = word;
}

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

void copy_within(void* to, const void* from, std::size_t bytes) {
    COVER_CUDA_CALL(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream));
}

void clear(void* to, std::size_t bytes) { COVER_CUDA_CALL(cudaMemsetAsync(to, 0, bytes, stream)); }

std::size_t available() {
    std::size_t free = 0, total = 0;
    COVER_CUDA_CALL(cudaMemGetInfo(&free, &total));
    return free;
}

// Uploads have a stream of their own, and each page-locked block an event that says when its last one was done.
cudaStream_t upload_stream = nullptr;
std::mutex pinned_mutex;
std::map<const void*, cudaEvent_t>& pinned_events() {
    static auto* events = new std::map<const void*, cudaEvent_t>;  // never destroyed, like the storages
    return *events;
}
cudaEvent_t event_of(const void* pinned) {
    const std::lock_guard lock(pinned_mutex);
    return pinned_events().at(pinned);
}

void* allocate_pinned(std::size_t bytes) {
    void* block = nullptr;
    const cudaError_t result = cudaMallocHost(&block, bytes);
    if (result == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return nullptr;
    }
    require_success(result, "cudaMallocHost");
    cudaEvent_t done = nullptr;
    COVER_CUDA_CALL(cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
    const std::lock_guard lock(pinned_mutex);
    pinned_events()[block] = done;
    return block;
}

void release_pinned(void* pinned) {
    const cudaEvent_t done = event_of(pinned);
    (void)cudaEventSynchronize(done);
    (void)cudaEventDestroy(done);
    (void)cudaFreeHost(pinned);
    const std::lock_guard lock(pinned_mutex);
    pinned_events().erase(pinned);
}

void begin_upload(void* to, const void* pinned, std::size_t bytes) {
    COVER_CUDA_CALL(cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, upload_stream));
    COVER_CUDA_CALL(cudaEventRecord(event_of(pinned), upload_stream));
}

void await_upload(const void* pinned) { COVER_CUDA_CALL(cudaStreamWaitEvent(stream, event_of(pinned), 0)); }

template <class Word>
void fill_words(void* to, const void* element, std::int64_t count) {
    Word word;
    std::memcpy(&word, element, sizeof word);
    Stream here;
    here.native = stream;
    launch(here, "fill", blocks_for(count), threads_per_block, 0, fill_kernel<Word>, static_cast<Word*>(to), word,
           count);
}

void fill(void* to, const void* element, std::size_t element_bytes, std::int64_t count) {
    (element_bytes == 2   ? fill_words<std::uint16_t>
     : element_bytes == 4 ? fill_words<std::uint32_t>
                          : fill_words<std::uint64_t>)(to, element, count);
}

void begin_recording() {
    // Relaxed: the loader's threads may go on talking to the device meanwhile.
    COVER_CUDA_CALL(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
}

void* end_recording() {
    cudaGraph_t graph = nullptr;
    COVER_CUDA_CALL(cudaStreamEndCapture(stream, &graph));
    cudaGraphExec_t recording = nullptr;
    const cudaError_t result = cudaGraphInstantiate(&recording, graph, 0);
    (void)cudaGraphDestroy(graph);
    require_success(result, "cudaGraphInstantiate");
    return recording;
}

void play(void* recording) { COVER_CUDA_CALL(cudaGraphLaunch(static_cast<cudaGraphExec_t>(recording), stream)); }

// From a destructor: a failure shows in the next call.
void forget(void* recording) { (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(recording)); }

}  // namespace

const Ranges& device_ranges() {
    static const Ranges ranges{[](const char* name) { (void)nvtxRangePushA(name); }, [] { (void)nvtxRangePop(); }};
    return ranges;
}

const Recorder& device_recorder() {
    static const Recorder recorder{begin_recording, end_recording, play, forget};
    return recorder;
}

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
    facts.name = properties.name;
    facts.shared_memory_per_block = static_cast<std::int64_t>(properties.sharedMemPerBlockOptin);
    require(facts.compute_capability >= 80, ErrorKind::device, "[device] cuda: ", properties.name,
            " has compute capability ", properties.major, ".", properties.minor,
            "; the kernels need 8.0 (A100) or later");
    if (!stream) COVER_CUDA_CALL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    if (!upload_stream) COVER_CUDA_CALL(cudaStreamCreateWithFlags(&upload_stream, cudaStreamNonBlocking));
    set_device_memory(Device::cuda, {allocate, release, copy, copy_within, clear, fill, available, nullptr,
                                     allocate_pinned, release_pinned, begin_upload, await_upload});
    return facts;
}

void* device_stream() { return stream; }

void device_wait() { COVER_CUDA_CALL(cudaStreamSynchronize(stream)); }

bool device_synchronise(void* native) {
    return cudaStreamSynchronize(static_cast<cudaStream_t>(native)) == cudaSuccess;
}

}  // namespace cover::cuda::native
