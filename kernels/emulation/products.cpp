// wgmma: products of matrices in shared memory, in the layouts of the PTX manual ("Asynchronous Warpgroup Level Matrix
// Instructions": matrix fragments, canonical layouts and descriptors).
#include <algorithm>
#include <bit>
#include <cstring>

#include "core/check.h"
#include "kernels/emulation/hopper_execution.h"
#include "kernels/emulation/sanitizers.h"

namespace cover::cuda::emulated {
namespace {

using Wait = ProductQueue::Wait;

constexpr int depth = 16, rows = 16;  // of a warp

// A matrix as its descriptor says, of which element (i, k) is asked for: i along M or N, k along the depth.
class Operand {
public:
    Operand(std::uint64_t descriptor, bool mn_major, const Wait& memory)
        : start_(field(descriptor, 0)),
          leading_(field(descriptor, 16)),
          stride_(field(descriptor, 32)),
          row_bytes_(descriptor >> 62 == 1 ? 128 : 64),
          mn_major_(mn_major),
          memory_(memory) {
        if (descriptor >> 62 != 1 && descriptor >> 62 != 2)
            fail(ErrorKind::device, "for a matrix whose rows are not of 128 or 64 swizzled bytes");
    }

    // to[k][i] for i from `first` on.
    template <int count>
    void read(float (&to)[depth][count], int first) const {
        float eight[8];
        if (mn_major_) {
            for (int k = 0; k < depth; ++k)
                for (int i = 0; i < count; i += 8) {
                    const int mn = first + i, in_row = row_bytes_ / 2;
                    piece(eight,
                          start_ + k / 8 * stride_ + k % 8 * row_bytes_ + mn / in_row * leading_ + mn % in_row * 2);
                    std::copy_n(eight, 8, to[k] + i);
                }
        } else {
            for (int i = 0; i < count; ++i)
                for (int k = 0; k < depth; k += 8) {
                    const int mn = first + i;
                    piece(eight, start_ + mn / 8 * stride_ + mn % 8 * row_bytes_ + 2 * k);
                    for (int q = 0; q < 8; ++q) to[k + q][i] = eight[q];
                }
        }
    }

private:
    static int field(std::uint64_t descriptor, int bit) { return static_cast<int>(descriptor >> bit & 0x3fffu) << 4; }

    void piece(float (&to)[8], int at) const {
        const auto place = static_cast<std::size_t>(at ^ (at / 128 & (row_bytes_ == 128 ? 7 : 3)) << 4);
        if (place < memory_.first || place + 16 > memory_.end)
            fail(ErrorKind::device,
                 text("for a matrix that leaves shared memory, at byte ", at - static_cast<int>(memory_.first)));
        std::uint16_t bits[8];
        std::memcpy(bits, memory_.shared + place, sizeof bits);
        for (int q = 0; q < 8; ++q) to[q] = std::bit_cast<float>(static_cast<std::uint32_t>(bits[q]) << 16);
    }

    int start_, leading_, stride_, row_bytes_;
    bool mn_major_;
    const Wait& memory_;
};

// Products are exact, sums float32 in order of the depth. held(lane): what the lane has of d.
template <int columns, class Held>
void multiply(const Product& product, const Wait& wait, const Held& held) {
    float a[depth][rows], b[depth][columns], d[rows][columns];
    Operand(product.a, product.a_mn_major, wait).read(a, rows * wait.warp);
    Operand(product.b, product.b_mn_major, wait).read(b, 0);
    const auto each_element = [&](const auto& visit) {
        for (int lane = 0; lane < 32; ++lane) {
            float* const own = held(lane);
            for (int i = 0; i < columns / 2; ++i)
                visit(own[i], d[lane / 4 + 8 * (i % 4 / 2)][8 * (i / 4) + 2 * (lane % 4) + i % 2]);
        }
    };
    const bool accumulate = product.accumulate;
    each_element([=](const float& own, float& element) { element = accumulate ? own : 0; });
    for (int row = 0; row < rows; ++row)
        for (int k = 0; k < depth; ++k)
            for (int column = 0; column < columns; ++column) d[row][column] += a[k][row] * b[k][column];
    each_element([](float& own, const float& element) { own = element; });
}

}  // namespace

void ProductQueue::push(const Product& product) {
    const auto find = [&](const float* d) {
        return std::find_if(accumulators_.begin(), accumulators_.end(),
                            [d](const Accumulators& own) { return own.d == d; });
    };
    auto own = find(product.d);
    if (own == accumulators_.end()) {
        own = find(nullptr);
        if (own == accumulators_.end()) own = accumulators_.insert(own, Accumulators{});
        own->d = product.d;
        own->count = product.count;
        own->products = 0;
        std::copy_n(product.d, product.count, own->held.data());
        std::fill_n(product.d, product.count, std::bit_cast<float>(~0u));
    }
    ++own->products;
    products_.push_back({product, static_cast<std::size_t>(own - accumulators_.begin()), committed_});
}

void ProductQueue::clear() {
    products_.clear();
    accumulators_.clear();
    committed_ = 0;
}

void ProductQueue::complete(const std::array<Wait*, 32>& lanes) {
    const Unseen unseen;  // one lane does what all are to find done
    try {
        carry_out(lanes);
    } catch (const Error& error) {
        for (Wait* lane : lanes) lane->problem = error.what();
    }
}

void ProductQueue::carry_out(const std::array<Wait*, 32>& lanes) {
    const auto completed = [](const Wait& wait) {
        const ProductQueue& queue = *wait.queue;
        const auto end = std::find_if(queue.products_.begin(), queue.products_.end(), [&](const Queued& queued) {
            return queued.group >= queue.committed_ - wait.pending;
        });
        return static_cast<std::size_t>(end - queue.products_.begin());
    };
    const std::size_t count = completed(*lanes[0]);
    for (const Wait* lane : lanes)
        if (completed(*lane) != count) fail(ErrorKind::device, "in lanes that have begun different products");
    for (std::size_t i = 0; i < count; ++i) {
        const Product& product = lanes[0]->queue->products_[i].product;
        for (const Wait* lane : lanes) {
            const Product& other = lane->queue->products_[i].product;
            if (other.a != product.a || other.b != product.b || other.count != product.count ||
                other.accumulate != product.accumulate)
                fail(ErrorKind::device, "in lanes that have begun different products");
        }
        const auto held = [&](int lane) {
            ProductQueue& queue = *lanes[static_cast<std::size_t>(lane)]->queue;
            return queue.accumulators_[queue.products_[i].accumulators].held.data();
        };
        switch (product.count) {
        case 16: multiply<32>(product, *lanes[0], held); break;
        case 32: multiply<64>(product, *lanes[0], held); break;
        case 48: multiply<96>(product, *lanes[0], held); break;
        case 64: multiply<128>(product, *lanes[0], held); break;
        default: multiply<192>(product, *lanes[0], held);
        }
    }
    for (const Wait* lane : lanes) {
        ProductQueue& queue = *lane->queue;
        for (std::size_t i = 0; i < count; ++i) {
            Accumulators& own = queue.accumulators_[queue.products_[i].accumulators];
            if (--own.products > 0) continue;
            std::copy_n(own.held.data(), own.count, own.d);
            own.d = nullptr;
        }
        queue.products_.erase(queue.products_.begin(), queue.products_.begin() + static_cast<std::ptrdiff_t>(count));
    }
}

}  // namespace cover::cuda::emulated
