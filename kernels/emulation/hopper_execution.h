// What hopper.h asks of the runtime, from inside a kernel: barriers in shared memory, boxes that are copied late, and
// products that are carried out when they are waited for. Called outside a kernel, they throw Error(internal).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>
#include <vector>

namespace cover::cuda::emulated {

// Where an address of the block's shared memory lies in it: swizzles go by these bits. An error for any other address.
std::uint32_t shared_offset(const void* at, const std::source_location& where);
// The whole of what the launch asked for, as the first piece of shared memory.
void* all_of_shared();

// Makes a barrier. What it returns is to be stored in `at`: a later call for a place that does not hold it is an error.
std::uint64_t begin_barrier(const void* at, unsigned arrivals, const std::source_location& where);
// `word`: what lies at the barrier's place. Announces `bytes` first, then arrives.
void arrive(std::uint64_t word, std::uint64_t bytes, const std::source_location& where);
// Returns when the phase of this parity has ended.
void wait_for_phase(std::uint64_t word, unsigned parity, const std::source_location& where);

// A tensor of bfloat16 without gaps and the box in which it is copied, innermost axis first.
struct BoxedTensor {
    const std::uint16_t* data;  // null: no tensor
    int rank;
    std::array<std::int64_t, 5> sides;
    std::array<int, 5> box;
};
// Overwrites the target with 0xFF. The box lands when no thread of the block can go on, and then counts on the barrier.
void begin_box(void* shared, const BoxedTensor& tensor, std::uint64_t barrier, int rank,
               const std::array<int, 5>& corner, const std::source_location& where);

// Returns when the 128 threads of the calling thread's warpgroup wait here.
void wait_for_warpgroup(int number, const std::source_location& where);

// d (64 x 2 count) = a b, or d += a b, by the four warps of a warpgroup, each its 16 rows; d are the `count` elements
// that the thread holds of it. d is 0xFF until a wait has carried out all products on it.
struct Product {
    float* d;
    int count;
    std::uint64_t a, b;  // descriptors
    bool accumulate, a_mn_major, b_mn_major;
};
void begin_product(const Product& product, const std::source_location& where);
void commit_products();
void complete_products(int pending, const std::source_location& where);

// What a thread has under way.
class ProductQueue {
public:
    void push(const Product& product);
    void commit() { ++committed_; }
    bool empty() const { return products_.empty(); }
    void clear();

    // Of the 32 lanes of a warp, which is number `warp` of its warpgroup: carries out, on each lane, what a wait for
    // all but the last `pending` groups completes. Operands lie in shared memory, which `shared` is, from byte `first`
    // up to byte `end`. Where they lie elsewhere, or lanes differ, `problem` says so on each.
    struct Wait {
        ProductQueue* queue;
        int pending, warp;
        const unsigned char* shared;
        std::size_t first, end;
        std::string problem;
    };
    static void complete(const std::array<Wait*, 32>& lanes);

private:
    static void carry_out(const std::array<Wait*, 32>& lanes);
    struct Queued {
        Product product;
        std::size_t accumulators;
        std::int64_t group;
    };
    // Stands for registers while products work on them.
    struct Accumulators {
        float* d;  // null: free
        int count, products;
        std::array<float, 96> held;
    };

    std::vector<Queued> products_;
    std::vector<Accumulators> accumulators_;
    std::int64_t committed_ = 0;
};

}  // namespace cover::cuda::emulated
