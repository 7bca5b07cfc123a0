#include "core/storage.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "core/check.h"
#include "core/device_memory.h"

namespace cover {
namespace {

std::size_t rounded(std::size_t bytes) {
    return std::max<std::size_t>((bytes + Storage::alignment - 1) / Storage::alignment * Storage::alignment,
                                 Storage::alignment);
}

// One range of addresses as large as the machine's memory, of which only what was touched costs anything. Freed blocks
// merge with free neighbours; a request takes the smallest hole that fits, and the range grows only when none does. The
// highest address ever used is then close to the largest sum of live blocks.
class Arena {
public:
    Arena() {
        // One allocation per tensor where a checker wants to see each: COVER_ARENA=off, and under the address
        // sanitizer.
        const char* wish = std::getenv("COVER_ARENA");
        bool wanted = !(wish && std::strcmp(wish, "off") == 0);
#ifdef __SANITIZE_ADDRESS__
        wanted = false;
#endif
        if (!wanted) return;
        reserved_ = static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        // A limit on the address space may refuse the whole; half of it serves too.
        for (; reserved_ >= (std::size_t{64} << 20); reserved_ /= 2) {
            void* range =
                mmap(nullptr, reserved_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (range == MAP_FAILED) continue;
            base_ = static_cast<char*>(range);
            // Large pages save both faults and address look-ups; a refusal changes nothing but speed.
            (void)madvise(base_, reserved_, MADV_HUGEPAGE);
            return;
        }
    }

    void* take(std::size_t size) {
        const std::lock_guard lock(mutex_);
        void* data = base_ ? take_from_range(size) : std::aligned_alloc(Storage::alignment, size);
        if (!data) return nullptr;
        if (!base_) statistics_.held += size;
        statistics_.in_use += size;
        statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
        return data;
    }

    void give_back(void* data, std::size_t size) {
        const std::lock_guard lock(mutex_);
        statistics_.in_use -= size;
        if (!base_) {
            statistics_.held -= size;
            std::free(data);
            return;
        }
        std::size_t begin = static_cast<std::size_t>(static_cast<char*>(data) - base_), end = begin + size;
        auto next = holes_.lower_bound(begin);
        if (next != holes_.end() && next->first == end) {
            end += next->second;
            next = holes_.erase(next);
        }
        if (next != holes_.begin()) {
            const auto before = std::prev(next);
            if (before->first + before->second == begin) {
                begin = before->first;
                holes_.erase(before);
            }
        }
        holes_[begin] = end - begin;
    }

    void release() {
        const std::lock_guard lock(mutex_);
        if (!base_) return;
        const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
        for (const auto& [begin, size] : holes_) {
            const std::size_t first = (begin + page - 1) / page * page, last = (begin + size) / page * page;
            if (first < last) (void)madvise(base_ + first, last - first, MADV_DONTNEED);
        }
        if (!holes_.empty()) {
            const auto last = std::prev(holes_.end());
            if (last->first + last->second == statistics_.held) {
                statistics_.held = last->first;
                holes_.erase(last);
            }
        }
    }

    MemoryStatistics statistics() {
        const std::lock_guard lock(mutex_);
        return statistics_;
    }

    void reset_peak() {
        const std::lock_guard lock(mutex_);
        statistics_.peak = statistics_.in_use;
    }

private:
    // statistics_.held is the end of the used part of the range.
    void* take_from_range(std::size_t size) {
        auto best = holes_.end();
        for (auto hole = holes_.begin(); hole != holes_.end(); ++hole)
            if (hole->second >= size && (best == holes_.end() || hole->second < best->second)) best = hole;
        std::size_t begin = statistics_.held;
        if (best != holes_.end()) {
            begin = best->first;
            if (best->second > size) holes_[begin + size] = best->second - size;
            holes_.erase(begin);
        } else {
            // A hole at the end grows instead of leaving a gap.
            if (!holes_.empty()) {
                const auto last = std::prev(holes_.end());
                if (last->first + last->second == statistics_.held) begin = last->first;
            }
            if (size > reserved_ - begin) return nullptr;
            holes_.erase(begin);
            statistics_.held = begin + size;
        }
        return base_ + begin;
    }

    std::mutex mutex_;
    char* base_ = nullptr;  // null: every block comes from aligned_alloc
    std::size_t reserved_ = 0;
    std::map<std::size_t, std::size_t> holes_;  // offset -> bytes, never two that touch
    MemoryStatistics statistics_;
};

Arena& arena() {
    static Arena* instance = new Arena;  // never destroyed: storages may outlive static objects
    return *instance;
}

}  // namespace

std::shared_ptr<Storage> Storage::allocate(std::size_t bytes, Device device) {
    const std::size_t size = rounded(bytes);
    void* data = device == Device::cpu ? arena().take(size) : take_device_block(device, size);
    require(data != nullptr, ErrorKind::device, "[storage] no memory on ", name_of(device), " for a block of ", size,
            " bytes; use a smaller batch or patch");
    return std::shared_ptr<Storage>(new Storage(data, bytes, size, device));
}

Storage::~Storage() {
    if (device_ == Device::cpu)
        arena().give_back(data_, capacity_);
    else
        give_back_device_block(device_, data_, capacity_);
}

MemoryStatistics memory_statistics(Device device) {
    return device == Device::cpu ? arena().statistics() : device_memory_statistics(device);
}

void reset_memory_peak(Device device) {
    if (device == Device::cpu)
        arena().reset_peak();
    else
        reset_device_memory_peak(device);
}

void release_unused_memory(Device device) {
    if (device == Device::cpu)
        arena().release();
    else
        release_unused_device_memory(device);
}

}  // namespace cover
