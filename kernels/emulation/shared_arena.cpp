#include "kernels/emulation/shared_arena.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "kernels/emulation/sanitizers.h"

namespace cover::cuda::emulated {
namespace {

constexpr std::size_t arena_bytes = 512 * 1024;
constexpr int poison = 0xff;
constexpr std::size_t most_pieces = 512;

bool poisoned(const unsigned char* begin, const unsigned char* end) {
    return std::all_of(begin, end, [](unsigned char byte) { return byte == poison; });
}

}  // namespace

SharedArena::SharedArena() : pages_(arena_bytes) { pieces_.reserve(most_pieces); }

void SharedArena::begin_block(std::size_t shared_bytes) {
    launched_ = shared_bytes;
    used_ = 0;
    pieces_.clear();
    if (shared_bytes == 0) return;
    pages_.forget_accesses();
    const Unseen unseen;
    allow_access(pages_.data(), pages_.size());
    std::memset(pages_.data(), poison, fence);
    next_ = pages_.data() + fence;
    forbid_access(pages_.data(), pages_.size());
}

void* SharedArena::piece(int index, std::size_t bytes, std::size_t used) {
    const auto place = static_cast<std::size_t>(index);
    if (place < pieces_.size()) {
        require(pieces_[place].bytes == bytes, ErrorKind::device, "piece ", index, " of Shared has ", bytes,
                " bytes in this thread and ", pieces_[place].bytes,
                " in another; every thread takes the same pieces in the same order");
        return pieces_[place].at;
    }
    require(used_ + used <= launched_, ErrorKind::device, "piece ", index, " of Shared needs ", used,
            " bytes behind the ", used_, " that are taken, more than the launch's ", launched_,
            "; add up Shared::shared_bytes_of at the launch");
    const std::size_t extent = used + fence;
    require(pieces_.size() < most_pieces && next_ + extent <= pages_.data() + pages_.size(), ErrorKind::device,
            "Shared is cut into more than ", pieces_.size(), " pieces; take fewer and larger ones");
    const Unseen unseen;
    unsigned char* at = next_;
    allow_access(at, extent);
    std::memset(at, poison, extent);
    forbid_access(at + bytes, extent - bytes);
    pieces_.push_back({at, bytes, used});
    used_ += used;
    next_ += extent;
    return at;
}

bool SharedArena::holds(const void* at, std::size_t bytes) const {
    const auto* begin = static_cast<const unsigned char*>(at);
    return std::any_of(pieces_.begin(), pieces_.end(), [&](const Piece& piece) {
        return begin >= piece.at && begin + bytes <= piece.at + piece.bytes;
    });
}

std::pair<std::size_t, std::size_t> SharedArena::first_piece() const {
    if (pieces_.empty()) return {0, 0};
    const auto begin = static_cast<std::size_t>(pieces_.front().at - pages_.data());
    return {begin, begin + pieces_.front().bytes};
}

std::string SharedArena::end_block() {
    if (launched_ == 0) return "";
    if (address_sanitizer()) {  // it has reported what would be found here
        forbid_access(pages_.data(), pages_.size());
        return "";
    }
    const unsigned char* gap = pages_.data();
    for (std::size_t index = 0; index <= pieces_.size(); ++index) {
        const unsigned char* end = index < pieces_.size() ? pieces_[index].at : next_;
        if (!poisoned(gap, end))
            return text("something was written next to piece ", index ? index - 1 : 0,
                        " of Shared; build with -fsanitize=address to see by which line");
        if (index < pieces_.size()) gap = pieces_[index].at + pieces_[index].bytes;
    }
    return "";
}

}  // namespace cover::cuda::emulated
