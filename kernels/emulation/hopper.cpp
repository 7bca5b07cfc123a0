// What a block does of what Hopper alone has: barriers in shared memory, boxes that the TMA brings, products and syncs
// of a warpgroup.
#include <algorithm>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "kernels/emulation/block.h"
#include "kernels/emulation/sanitizers.h"

namespace cover::cuda::emulated {
namespace {

constexpr std::uint32_t warpgroup_threads = 128;
// mbarriers count up to this, in arrivals and in bytes.
constexpr std::int64_t most_pending = (1 << 20) - 1;

// A word that stands for a barrier: unlike poison, zeros and what kernels store.
constexpr std::uint64_t barrier_mark = 0xba44'1e44'0000'0000;

}  // namespace

void Block::fail_at(const std::source_location& where, const char* call, const std::string& what) const {
    fail(ErrorKind::device, text(place(), "thread ", number_of(*running_), " calls ", call, " (", where.file_name(),
                                 ":", where.line(), ") ", what));
}

std::uint32_t Block::shared_offset(const void* at, const std::source_location& where) const {
    const auto offset = static_cast<const unsigned char*>(at) - shared_.data();
    const auto [first, end] = shared_.first_piece();
    if (offset < static_cast<std::ptrdiff_t>(first) || offset > static_cast<std::ptrdiff_t>(end))
        fail_at(where, "shared_address", "for a place that is not in shared memory");
    return static_cast<std::uint32_t>(offset);
}

void* Block::all_of_shared() { return shared_piece(0, shared_.launched(), shared_.launched()); }

// Barriers -------------------------------------------------------------------------------------------

std::uint64_t Block::begin_barrier(const void* at, unsigned arrivals, const std::source_location& where) {
    if (reinterpret_cast<std::uintptr_t>(at) % 8 != 0 || !shared_.holds(at, 8))
        fail_at(where, "barrier_init", "for a place that is not 8 bytes of shared memory, aligned to 8");
    if (arrivals < 1 || arrivals > most_pending)
        fail_at(where, "barrier_init", text("for ", arrivals, " arrivals; a barrier counts 1 to ", most_pending));
    const std::uint32_t offset = shared_offset(at, where);
    if (std::any_of(barriers_.begin(), barriers_.end(), [&](const Barrier& b) { return b.offset == offset; }))
        fail_at(where, "barrier_init", "for a barrier that is initialised already");
    const Unseen unseen;
    barriers_.push_back({offset, arrivals, arrivals});
    return barrier_mark + barriers_.size() - 1;
}

std::uint32_t Block::barrier_number(std::uint64_t word, const char* call, const std::source_location& where) const {
    const std::uint64_t number = word - barrier_mark;
    if (number >= barriers_.size())
        fail_at(where, call,
                "for a place that holds no barrier; initialise it before a block_sync, and write nothing there");
    return static_cast<std::uint32_t>(number);
}

void Block::arrive(std::uint64_t word, std::uint64_t bytes, const std::source_location& where) {
    if (discarding_) return;
    Barrier& barrier = barriers_[barrier_number(word, "barrier_arrive", where)];
    if (barrier.missing == 0)
        fail_at(where, "barrier_arrive",
                text("although all ", barrier.arrivals, " arrivals of the barrier's phase ", barrier.phase,
                     " have been there and ", barrier.bytes, " bytes are missing"));
    barrier.bytes += static_cast<std::int64_t>(bytes);
    if (barrier.bytes > most_pending)
        fail_at(where, "barrier_arrive",
                text("and announces bytes beyond the ", most_pending, " that a barrier counts"));
    --barrier.missing;
    release(shared_.data() + barrier.offset);
    end_phase_if_complete(barrier);
}

void Block::end_phase_if_complete(Barrier& barrier) {
    if (barrier.missing > 0 || barrier.bytes != 0) return;
    barrier.missing = barrier.arrivals;
    ++barrier.phase;
    const auto number = static_cast<std::uint32_t>(&barrier - barriers_.data());
    for (std::uint32_t i = 0; i < count_; ++i) {
        const std::uint32_t at = settings_.order == FiberOrder::reversed ? count_ - 1 - i : i;
        Thread& thread = threads_[at];
        if (thread.state != ThreadState::waiting || thread.collective != Collective::barrier_wait ||
            thread.barrier != number)
            continue;
        thread.state = ThreadState::ready;
        push_ready(at);
    }
}

void Block::wait_for_phase(std::uint64_t word, unsigned parity, const std::source_location& where) {
    if (discarding_) throw Discarded{};
    const std::uint32_t number = barrier_number(word, "barrier_wait", where);
    if (parity > 1) fail_at(where, "barrier_wait", text("for parity ", parity, "; it is 0 or 1"));
    Thread& self = *running_;
    // When its turn comes the next phase may have ended, too, as between two looks of a GPU's thread.
    while (static_cast<unsigned>(barriers_[number].phase % 2) == parity) {
        self.state = ThreadState::waiting;
        self.collective = Collective::barrier_wait;
        self.barrier = number;
        self.parity = parity;
        self.where = where;
        pause();
    }
    acquire(shared_.data() + barriers_[number].offset);
}

// Boxes -------------------------------------------------------------------------------------------

std::int64_t BoxCopy::bytes() const {
    std::int64_t count = 2;
    for (int axis = 0; axis < tensor.rank; ++axis) count *= tensor.box[static_cast<std::size_t>(axis)];
    return count;
}

void BoxCopy::land(unsigned char* shared) const {
    const std::int64_t width = tensor.box[0], row_bytes = 2 * width, rows = bytes() / row_bytes;
    const std::uint32_t swizzle = row_bytes == 128 ? 7 : 3;
    for (std::int64_t row = 0; row < rows; ++row) {
        std::int64_t rest = row, line = 0, stride = tensor.sides[0];
        bool inside = true;
        for (std::size_t axis = 1; axis < static_cast<std::size_t>(tensor.rank); ++axis) {
            const std::int64_t at = corner[axis] + rest % tensor.box[axis];
            rest /= tensor.box[axis];
            inside = inside && at >= 0 && at < tensor.sides[axis];
            line += at * stride;
            stride *= tensor.sides[axis];
        }
        for (std::int64_t piece = 0; piece < width / 8; ++piece) {
            const std::int64_t first = corner[0] + 8 * piece;
            std::uint16_t eight[8] = {};
            if (inside && first >= 0 && first + 8 <= tensor.sides[0]) {
                std::memcpy(eight, tensor.data + line + first, sizeof eight);
            } else if (inside) {
                for (std::int64_t i = 0; i < 8; ++i)
                    if (first + i >= 0 && first + i < tensor.sides[0]) eight[i] = tensor.data[line + first + i];
            }
            const auto at = to + static_cast<std::uint32_t>(row * row_bytes + 16 * piece);
            std::memcpy(shared + (at ^ (at / 128 & swizzle) << 4), eight, sizeof eight);
        }
    }
}

void Block::begin_box(void* shared, const BoxedTensor& tensor, std::uint64_t word, int rank,
                      const std::array<int, 5>& corner, const std::source_location& where) {
    if (discarding_) return;
    if (!tensor.data || tensor.rank != rank)
        fail_at(where, "copy_box", text("with ", rank, " places for a map of ", tensor.rank, " axes"));
    const std::uint32_t barrier = barrier_number(word, "copy_box", where);
    BoxCopy box{tensor, 0, corner, barrier};
    const std::int64_t bytes = box.bytes();
    if (reinterpret_cast<std::uintptr_t>(shared) % 128 != 0 || !shared_.holds(shared, static_cast<std::size_t>(bytes)))
        fail_at(where, "copy_box", text("to a place that is not ", bytes, " bytes of shared memory, aligned to 128"));
    box.to = shared_offset(shared, where);
    const Unseen unseen;
    std::memset(shared, 0xff, static_cast<std::size_t>(bytes));
    boxes_.push_back(box);
}

// Of the boxes that count on one barrier with the oldest, the oldest, the newest or any, as the threads take turns. So
// barriers are served in the order in which they were asked for: nothing promises that, but rung 6 of the convolution
// counts on it where its warpgroups take turns (resident_stages).
void Block::land_a_box() {
    const Unseen unseen;
    const std::uint32_t oldest = boxes_.front().barrier;
    std::size_t chosen = 0, met = 0;
    for (std::size_t i = 0; i < boxes_.size(); ++i) {
        if (boxes_[i].barrier != oldest) continue;
        ++met;
        const bool later = settings_.order == FiberOrder::reversed ||
                           (settings_.order == FiberOrder::random && next_random() % met == 0);
        if (later) chosen = i;
    }
    const auto box = boxes_.begin() + static_cast<std::ptrdiff_t>(chosen);
    box->land(shared_.data());
    Barrier& barrier = barriers_[box->barrier];
    barrier.bytes -= box->bytes();
    boxes_.erase(box);
    end_phase_if_complete(barrier);
}

// Warpgroups -------------------------------------------------------------------------------------------

void Block::wait_for_warpgroup(int number, const std::source_location& where) {
    if (discarding_) throw Discarded{};
    Thread& self = *running_;
    const std::uint32_t group = number_of(self) / warpgroup_threads, first = group * warpgroup_threads;
    if (number < 1 || number > 15 || first + warpgroup_threads > count_)
        fail_at(where, "warpgroup_sync",
                text("number ", number, "; numbers are 1 to 15, and a warpgroup has 128 threads"));
    WarpgroupSync& sync = warpgroup_syncs_[static_cast<std::size_t>(number)];
    if (sync.group < 0) sync.group = static_cast<int>(group);
    if (sync.group != static_cast<int>(group))
        fail_at(where, "warpgroup_sync",
                text("number ", number, ", which is warpgroup ", sync.group, "'s; each has a number of its own"));
    self.state = ThreadState::waiting;
    self.collective = Collective::warpgroup_sync;
    self.number = number;
    self.where = where;
    if (++sync.waiting == warpgroup_threads) {
        sync.waiting = 0;
        order_memory(first, warpgroup_threads, everyone, &sync);
        wake(first, warpgroup_threads, everyone);
    }
    pause();
}

void Block::begin_product(const Product& product, const std::source_location& where) {
    if (discarding_) return;
    Thread& self = *running_;
    const std::uint32_t number = number_of(self), group = number / warpgroup_threads;
    if ((group + 1) * warpgroup_threads > count_)
        fail_at(where, "multiply_add_warpgroup", "outside of a warpgroup of 128 threads");
    const Unseen unseen;
    if (number % warp_size == 0) ++products_begun_[number / warp_size];
    self.products.push(product);
}

void Block::complete_products(int pending, const std::source_location& where) {
    if (discarding_) throw Discarded{};
    const auto [first, end] = shared_.first_piece();
    const auto warp = static_cast<int>(number_of(*running_) / warp_size % 4);
    ProductQueue::Wait wait{&running_->products, pending, warp, shared_.data(), first, end, ""};
    meet(Collective::products_wait, everyone, &wait, where);
    if (!wait.problem.empty()) fail_at(where, "products_wait", wait.problem);
}

// Ends -------------------------------------------------------------------------------------------

std::string Block::left_under_way() const {
    if (!boxes_.empty())
        return text(boxes_.size(),
                    " boxes are under way when the block ends; wait for the phase of barrier that they count on");
    for (std::size_t group = 0; 4 * group + 3 < (count_ + warp_size - 1) / warp_size; ++group)
        for (std::size_t warp = 4 * group + 1; warp < 4 * group + 4; ++warp)
            if (products_begun_[warp] != products_begun_[4 * group])
                return text("warp ", 4 * group, " has begun ", products_begun_[4 * group], " products and warp ", warp,
                            " of its warpgroup ", products_begun_[warp], "; all four begin the same");
    return "";
}

}  // namespace cover::cuda::emulated
