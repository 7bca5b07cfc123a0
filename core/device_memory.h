// How core reaches the memory of a device other than the CPU. The library that drives the device gives it these
// functions when the device is opened (kernels/devices.h).
#pragma once

#include <cstddef>

#include "core/device.h"
#include "core/storage.h"

namespace cover {

struct DeviceMemory {
    void* (*allocate)(std::size_t bytes) = nullptr;  // null when there is none left
    void (*release)(void* block) = nullptr;
    // Both begin after all work queued before them and are done when they return. Either side of a copy may be the
    // host's.
    void (*copy)(void* to, const void* from, std::size_t bytes) = nullptr;
    void (*clear)(void* to, std::size_t bytes) = nullptr;  // zeros
    // Called on each block that is handed out, fresh or used before; may be null.
    void (*poison)(void* block, std::size_t bytes) = nullptr;
};

void set_device_memory(Device device, const DeviceMemory& memory);
// Throws Error(device) unless the device has been opened.
const DeviceMemory& device_memory(Device device);

// Blocks of one device, kept when they are given back and handed out again to a request of the same size: the shapes of
// a step never change, so after the first step the device is asked for nothing. When the device has none left, what is
// kept is released and it is asked again. With COVER_ARENA=off nothing is kept.
void* take_device_block(Device device, std::size_t bytes);  // null: no memory
void give_back_device_block(Device device, void* block, std::size_t bytes);
MemoryStatistics device_memory_statistics(Device device);
void reset_device_memory_peak(Device device);
void release_unused_device_memory(Device device);

}  // namespace cover
