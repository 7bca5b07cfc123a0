#include "core/device_memory.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "core/check.h"

namespace cover {
namespace {

struct DeviceBlocks {
    std::mutex mutex;
    DeviceMemory memory;
    std::map<std::size_t, std::vector<void*>> kept;  // by size
    MemoryStatistics statistics;
    ReservedBlocks* reserving = nullptr;

    void release_kept() {
        for (const auto& [size, blocks] : kept)
            for (void* block : blocks) {
                memory.release(block);
                statistics.held -= size;
            }
        kept.clear();
    }
};

DeviceBlocks& blocks_of(Device device) {
    // Never destroyed: storages may outlive static objects.
    static auto* devices = new std::array<DeviceBlocks, 3>;
    return (*devices)[static_cast<std::size_t>(device)];
}

// Null where there is none of this size.
void* take_from(std::map<std::size_t, std::vector<void*>>& blocks, std::size_t bytes) {
    const auto it = blocks.find(bytes);
    if (it == blocks.end() || it->second.empty()) return nullptr;
    void* block = it->second.back();
    it->second.pop_back();
    return block;
}

}  // namespace

bool device_blocks_are_kept() {
    static const bool keeps = [] {
        const char* wish = std::getenv("COVER_ARENA");
        return !(wish && std::strcmp(wish, "off") == 0);
    }();
    return keeps;
}

void set_device_memory(Device device, const DeviceMemory& memory) { blocks_of(device).memory = memory; }

const DeviceMemory& device_memory(Device device) {
    const DeviceMemory& memory = blocks_of(device).memory;
    require(memory.allocate != nullptr, ErrorKind::device, "[device] ", name_of(device),
            " is asked for memory but has not been opened");
    return memory;
}

void* take_device_block(Device device, std::size_t bytes) {
    const DeviceMemory& memory = device_memory(device);
    DeviceBlocks& blocks = blocks_of(device);
    const std::lock_guard lock(blocks.mutex);
    void* block = blocks.reserving ? take_from(blocks.reserving->blocks_, bytes) : nullptr;
    if (!block) block = take_from(blocks.kept, bytes);
    if (!block) {
        block = memory.allocate(bytes);
        if (!block) {
            blocks.release_kept();
            block = memory.allocate(bytes);
        }
        if (!block) return nullptr;
        blocks.statistics.held += bytes;
    }
    blocks.statistics.in_use += bytes;
    blocks.statistics.peak = std::max(blocks.statistics.peak, blocks.statistics.in_use);
    if (memory.poison) memory.poison(block, bytes);
    return block;
}

void give_back_device_block(Device device, void* block, std::size_t bytes) {
    DeviceBlocks& blocks = blocks_of(device);
    const std::lock_guard lock(blocks.mutex);
    blocks.statistics.in_use -= bytes;
    if (device_blocks_are_kept()) {
        (blocks.reserving ? blocks.reserving->blocks_ : blocks.kept)[bytes].push_back(block);
    } else {
        blocks.memory.release(block);
        blocks.statistics.held -= bytes;
    }
}

MemoryStatistics device_memory_statistics(Device device) {
    DeviceBlocks& blocks = blocks_of(device);
    const std::lock_guard lock(blocks.mutex);
    return blocks.statistics;
}

void reset_device_memory_peak(Device device) {
    DeviceBlocks& blocks = blocks_of(device);
    const std::lock_guard lock(blocks.mutex);
    blocks.statistics.peak = blocks.statistics.in_use;
}

ReservedBlocks::ReservedBlocks(Device device) : device_(device) {
    DeviceBlocks& blocks = blocks_of(device);
    const std::lock_guard lock(blocks.mutex);
    require(device_blocks_are_kept() && !blocks.reserving, ErrorKind::internal,
            "[device] blocks are being reserved already, or COVER_ARENA=off keeps none");
    blocks.reserving = this;
}

void ReservedBlocks::close() {
    DeviceBlocks& blocks = blocks_of(device_);
    const std::lock_guard lock(blocks.mutex);
    if (blocks.reserving == this) blocks.reserving = nullptr;
}

ReservedBlocks::~ReservedBlocks() {
    close();
    DeviceBlocks& blocks = blocks_of(device_);
    const std::lock_guard lock(blocks.mutex);
    for (auto& [size, list] : blocks_) {
        std::vector<void*>& kept = blocks.kept[size];
        kept.insert(kept.end(), list.begin(), list.end());
    }
}

void release_unused_device_memory(Device device) {
    DeviceBlocks& blocks = blocks_of(device);
    const std::lock_guard lock(blocks.mutex);
    blocks.release_kept();
}

}  // namespace cover
