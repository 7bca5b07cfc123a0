// How core reaches the memory of a device other than the CPU. The library that drives the device gives it these
// functions when the device is opened (kernels/devices.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "core/device.h"
#include "core/storage.h"

namespace cover {

struct DeviceMemory {
    void* (*allocate)(std::size_t bytes) = nullptr;  // null when there is none left
    void (*release)(void* block) = nullptr;
    // Begins after all work queued before it and is done when it returns. Either side may be the host's.
    void (*copy)(void* to, const void* from, std::size_t bytes) = nullptr;
    void (*copy_within)(void* to, const void* from,
                        std::size_t bytes) = nullptr;      // on the device; queued, does not wait
    void (*clear)(void* to, std::size_t bytes) = nullptr;  // zeros; queued
    // `count` copies of one element of 2, 4 or 8 bytes. Queued; does not wait.
    void (*fill)(void* to, const void* element, std::size_t element_bytes, std::int64_t count) = nullptr;
    std::size_t (*available)() = nullptr;  // bytes that are free; null where the device's memory is the host's
    // Called on each block that is handed out, fresh or used before; may be null.
    void (*poison)(void* block, std::size_t bytes) = nullptr;

    // Uploads beside the device's work (core/upload.h). Page-locked memory of the host, null when there is none left;
    // each block of it takes one upload at a time.
    void* (*allocate_pinned)(std::size_t bytes) = nullptr;
    void (*release_pinned)(void* pinned) = nullptr;  // after its last upload is done
    // Returns at once; neither side may be touched until it is awaited. From any thread.
    void (*begin_upload)(void* to, const void* pinned, std::size_t bytes) = nullptr;
    // What is queued on the device from here on sees what the last upload from `pinned` brought. The host goes on.
    void (*await_upload)(const void* pinned) = nullptr;
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

// From its construction to close() every block that is given back stays with this object, which hands it out again; so
// work that is recorded in between can be played again while the object lives, and nobody else's tensors lie where it
// writes.
class ReservedBlocks {
public:
    explicit ReservedBlocks(Device device);
    ~ReservedBlocks();
    ReservedBlocks(const ReservedBlocks&) = delete;
    ReservedBlocks& operator=(const ReservedBlocks&) = delete;

    // Ends the taking; the blocks stay.
    void close();

private:
    Device device_;
    std::map<std::size_t, std::vector<void*>> blocks_;  // by size

    friend void* take_device_block(Device, std::size_t);
    friend void give_back_device_block(Device, void*, std::size_t);
};
// False with COVER_ARENA=off: then blocks cannot be reserved.
bool device_blocks_are_kept();

}  // namespace cover
