// The shared memory of one block at a time.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "kernels/emulation/fiber.h"

namespace cover::cuda::emulated {

// What a GPU of compute capability 9.0 gives a block at most.
inline constexpr std::size_t most_shared_bytes = 227 * 1024;

class SharedArena {
public:
    SharedArena();

    void begin_block(std::size_t shared_bytes);
    // Piece `index`, made when it is first asked for. Throws Error(device) when it does not fit into the launch's
    // shared bytes, or when another thread took another size.
    void* piece(int index, std::size_t bytes, std::size_t used);
    // Whether these bytes lie in one piece.
    bool holds(const void* at, std::size_t bytes) const;
    std::size_t launched() const { return launched_; }
    // Where the first piece begins and ends in data(); 0 and 0 where there is none.
    std::pair<std::size_t, std::size_t> first_piece() const;
    // Multiples of 4,096 from here on are multiples in memory, too.
    unsigned char* data() const { return pages_.data(); }
    // Empty, or a sentence about a fence that was written to.
    std::string end_block();

private:
    static constexpr std::size_t fence = 256;

    struct Piece {
        unsigned char* at;
        std::size_t bytes, used;
    };
    GuardedPages pages_;
    std::vector<Piece> pieces_;
    unsigned char* next_ = nullptr;  // behind the fence of the last piece
    std::size_t launched_ = 0, used_ = 0;
};

}  // namespace cover::cuda::emulated
