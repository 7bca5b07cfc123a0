#include <string>
#include <utility>
#include <vector>

#include "core/check.h"
#include "kernels/emulation/block.h"
#include "kernels/emulation/collectives.h"

namespace cover::cuda::emulated {
namespace {

std::string ranges(const std::vector<std::size_t>& numbers) {
    std::string out;
    for (std::size_t i = 0; i < numbers.size();) {
        std::size_t last = i;
        while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
        out += text(i ? ", " : "", numbers[i]);
        if (last > i) out += text("-", numbers[last]);
        i = last + 1;
    }
    return out;
}

std::string hexadecimal(unsigned value) {
    std::string out = "0x";
    for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[(value >> shift) & 15u];
    return out;
}

// "lanes 4-7 are not there": those that the mask of a waiting thread names and that wait elsewhere or not at all.
std::string missing_lanes(const std::vector<Thread>& threads, std::size_t count, std::size_t number) {
    const Thread& waiting = threads[number];
    const std::size_t first = number - number % warp_size;
    std::vector<std::size_t> missing;
    for (std::size_t lane = 0; lane < warp_size; ++lane) {
        if (!((waiting.mask >> lane) & 1u)) continue;
        if (first + lane < count) {
            const Thread& other = threads[first + lane];
            if (other.state == ThreadState::waiting && other.collective == waiting.collective &&
                other.mask == waiting.mask && same_place(other.where, waiting.where))
                continue;
        }
        missing.push_back(lane);
    }
    return text(missing.size() == 1 ? "lane " : "lanes ", ranges(missing));
}

std::string what_it_does(const std::vector<Thread>& threads, std::size_t count, const std::vector<Barrier>& barriers,
                         std::size_t number) {
    const Thread& thread = threads[number];
    if (thread.state == ThreadState::returned) return "returned";
    if (thread.state != ThreadState::waiting) return "can run";
    const std::string at =
        text(" at ", name_of(thread.collective), " (", thread.where.file_name(), ":", thread.where.line(), ")");
    if (thread.collective == Collective::block_sync) return "wait" + at;
    if (thread.collective == Collective::warpgroup_sync) return text("wait", at, " number ", thread.number);
    if (thread.collective == Collective::barrier_wait) {
        const Barrier& barrier = barriers[thread.barrier];
        return text("wait", at, " for phase ", barrier.phase, ", parity ", thread.parity, ", of the barrier at byte ",
                    barrier.offset, " of shared memory, where ", barrier.missing, " of ", barrier.arrivals,
                    " arrivals and ", barrier.bytes, " bytes are missing");
    }
    return text("wait", at, " with mask ", hexadecimal(thread.mask), " for ", missing_lanes(threads, count, number));
}

}  // namespace

std::string who_waits_where(const std::vector<Thread>& threads, std::size_t count,
                            const std::vector<Barrier>& barriers) {
    std::vector<std::pair<std::string, std::vector<std::size_t>>> groups;
    for (std::size_t number = 0; number < count; ++number) {
        std::string what = what_it_does(threads, count, barriers, number);
        std::size_t group = 0;
        while (group < groups.size() && groups[group].first != what) ++group;
        if (group == groups.size()) groups.push_back({std::move(what), {}});
        groups[group].second.push_back(number);
    }
    std::string out;
    for (const auto& [what, numbers] : groups)
        out += text(out.empty() ? "" : "; ", numbers.size() == 1 ? "thread " : "threads ", ranges(numbers), " ", what);
    return out;
}

}  // namespace cover::cuda::emulated
