#include "kernels/cuda/device.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "core/device_memory.h"

namespace cover::cuda::emulated {
namespace {

void* allocate(std::size_t bytes) { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }
void release(void* block) { std::free(block); }
void copy(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void copy_within(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void clear(void* to, std::size_t bytes) { std::memset(to, 0, bytes); }
void fill(void* to, const void* element, std::size_t element_bytes, std::int64_t count) {
    for (std::int64_t i = 0; i < count; ++i)
        std::memcpy(static_cast<char*>(to) + static_cast<std::size_t>(i) * element_bytes, element, element_bytes);
}
// Read before it is written, a float or double of these bytes is a NaN.
void poison(void* block, std::size_t bytes) { std::memset(block, 0xff, bytes); }

// An upload is carried out when it is awaited, the latest moment a device could choose: work that did not wait finds
// poison.
struct Upload {
    void* to = nullptr;
    std::size_t bytes = 0;
};
std::mutex uploads_mutex;
std::map<const void*, Upload>& uploads() {
    static auto* pending = new std::map<const void*, Upload>;  // never destroyed, like the storages
    return *pending;
}
void* allocate_pinned(std::size_t bytes) { return allocate(bytes); }
void release_pinned(void* pinned) {
    const std::lock_guard lock(uploads_mutex);
    uploads().erase(pinned);
    release(pinned);
}
void begin_upload(void* to, const void* pinned, std::size_t bytes) {
    poison(to, bytes);
    const std::lock_guard lock(uploads_mutex);
    uploads()[pinned] = {to, bytes};
}
void await_upload(const void* pinned) {
    const std::lock_guard lock(uploads_mutex);
    const Upload upload = uploads().at(pinned);
    std::memcpy(upload.to, pinned, upload.bytes);
}

}  // namespace

DeviceFacts open_device() {
    set_device_memory(Device::emulated, {allocate, release, copy, copy_within, clear, fill, nullptr, poison,
                                         allocate_pinned, release_pinned, begin_upload, await_upload});
    DeviceFacts facts;
    facts.compute_capability = 80;  // what an A100 has; tests make a Hopper of it
    facts.shared_memory_per_block = 163 * 1024;
    facts.name = "emulated device";
    return facts;
}

void* device_stream() { return nullptr; }
// A launch is done when it returns: there is nothing to play again.
const Recorder& device_recorder() {
    static const Recorder none;
    return none;
}
const Ranges& device_ranges() {
    static const Ranges none;
    return none;
}

void device_wait() {}

bool device_synchronise(void*) { return true; }

}  // namespace cover::cuda::emulated
