#include "kernels/cuda/device.h"

#include <cstdlib>
#include <cstring>

#include "core/device_memory.h"

namespace cover::cuda::emulated {
namespace {

void* allocate(std::size_t bytes) { return std::aligned_alloc(256, (bytes + 255) / 256 * 256); }
void release(void* block) { std::free(block); }
void copy(void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
void clear(void* to, std::size_t bytes) { std::memset(to, 0, bytes); }
// Read before it is written, a float or double of these bytes is a NaN.
void poison(void* block, std::size_t bytes) { std::memset(block, 0xff, bytes); }

}  // namespace

DeviceFacts open_device() {
    set_device_memory(Device::emulated, {allocate, release, copy, clear, poison});
    DeviceFacts facts;
    facts.compute_capability = 80;  // what an A100 has: no wgmma, no TMA
    facts.shared_memory_per_block = 163 * 1024;
    return facts;
}

void* device_stream() { return nullptr; }

}  // namespace cover::cuda::emulated
