#include "core/storage.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "core/check.h"

namespace cover {
namespace {

// Blocks are rounded to 64 bytes below 4 KiB and to an eighth of their power of two above, so that a freed block fits
// later requests of nearly its size.
std::size_t rounded(std::size_t bytes) {
    std::size_t step = Storage::alignment;
    if (bytes > 4096) {
        std::size_t power = 4096;
        while (power * 2 <= bytes) power *= 2;
        step = power / 8;
    }
    return std::max<std::size_t>((bytes + step - 1) / step * step, Storage::alignment);
}

struct Pool {
    std::mutex mutex;
    std::multimap<std::size_t, void*> free_blocks;
    MemoryStatistics statistics;
};

Pool& pool() {
    static Pool* instance = new Pool;  // never destroyed: storages may outlive static objects
    return *instance;
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, Device device) {
    require(device == Device::cpu, ErrorKind::device, "[storage] this build has no memory for device ",
            name_of(device));
    const std::size_t capacity = rounded(bytes);
    Pool& p = pool();
    void* data = nullptr;
    {
        const std::lock_guard lock(p.mutex);
        // A block up to an eighth larger than asked for is taken; anything larger would waste memory for a whole step.
        if (const auto it = p.free_blocks.lower_bound(capacity);
            it != p.free_blocks.end() && it->first <= capacity + capacity / 8) {
            data = it->second;
            const std::size_t found = it->first;
            p.free_blocks.erase(it);
            p.statistics.in_use += found;
            p.statistics.peak = std::max(p.statistics.peak, p.statistics.in_use);
            return std::shared_ptr<Storage>(new Storage(data, bytes, found, device));
        }
    }
    data = std::aligned_alloc(alignment, capacity);
    if (!data) {
        release_unused_memory();
        data = std::aligned_alloc(alignment, capacity);
    }
    require(data != nullptr, ErrorKind::device, "[storage] no memory for a block of ", capacity,
            " bytes; use a smaller batch or patch");
    const std::lock_guard lock(p.mutex);
    p.statistics.held += capacity;
    p.statistics.in_use += capacity;
    p.statistics.peak = std::max(p.statistics.peak, p.statistics.in_use);
    return std::shared_ptr<Storage>(new Storage(data, bytes, capacity, device));
}

Storage::~Storage() {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    p.statistics.in_use -= capacity_;
    p.free_blocks.emplace(capacity_, data_);
}

MemoryStatistics memory_statistics() {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    return p.statistics;
}

void reset_memory_peak() {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    p.statistics.peak = p.statistics.in_use;
}

void release_unused_memory() {
    Pool& p = pool();
    const std::lock_guard lock(p.mutex);
    for (const auto& [bytes, data] : p.free_blocks) {
        std::free(data);
        p.statistics.held -= bytes;
    }
    p.free_blocks.clear();
}

}  // namespace cover
