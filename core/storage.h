// Aligned memory blocks with shared ownership, cut from one range that keeps what was freed: the shapes of a step never
// change, so after the first step nothing is asked of the operating system. Other devices: core/device_memory.h.
// COVER_ARENA=off in the environment gives every block an allocation of its own, for memory checkers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/device.h"

namespace cover {

class Storage {
public:
    static constexpr std::size_t alignment = 64;

    // Contents are undefined. Throws Error(device) with the size when there is no memory.
    static std::shared_ptr<Storage> allocate(std::size_t bytes, Device device = Device::cpu);
    ~Storage();
    Storage(const Storage&) = delete;
    Storage& operator=(const Storage&) = delete;

    void* data() { return data_; }
    const void* data() const { return data_; }
    std::size_t bytes() const { return bytes_; }
    Device device() const { return device_; }

private:
    Storage(void* data, std::size_t bytes, std::size_t capacity, Device device)
        : data_(data), bytes_(bytes), capacity_(capacity), device_(device) {}

    void* data_;
    std::size_t bytes_;
    std::size_t capacity_;
    Device device_;
};

struct MemoryStatistics {
    std::size_t in_use = 0;  // bytes in live storages
    std::size_t peak = 0;    // largest in_use since reset_peak()
    std::size_t held = 0;    // bytes of the device's memory, live or kept for reuse
};

MemoryStatistics memory_statistics(Device device = Device::cpu);
void reset_memory_peak(Device device = Device::cpu);
// Gives the kept blocks back.
void release_unused_memory(Device device = Device::cpu);

}  // namespace cover
