// CUDA kernels on a CPU: what the emulation computes, in three orders of threads, and what it must not let through. Its
// kernels are in tests/emulation_kernels.cu.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>

#include "tests/emulation_kernels.h"
#include "tests/emulation_support.h"
#include "tests/support.h"

namespace cover::test {
namespace {

using namespace cuda::emulated;

Stream emulated_stream(int threads) {
    Stream stream = cpu_stream(threads);
    stream.device = Device::emulated;
    return stream;
}

template <class T>
std::vector<T> numbers(std::size_t count, std::int64_t step = 3, std::int64_t modulus = 1009) {
    std::vector<T> values(count);
    for (std::size_t i = 0; i < count; ++i)
        values[i] = static_cast<T>(static_cast<std::int64_t>(i * i + 5 * i) * step % modulus - modulus / 2);
    return values;
}

// In memory that is aligned as device memory is.
template <class T>
struct Buffer {
    explicit Buffer(const std::vector<T>& values)
        : tensor(Tensor::zeros({static_cast<std::int64_t>(values.size() * sizeof(T) / 4) + 1})) {
        std::memcpy(data(), values.data(), values.size() * sizeof(T));
    }
    T* data() { return reinterpret_cast<T*>(tensor.data<float>()); }
    Tensor tensor;
};

// The numbers of the lines of emulation_kernels.cu move; the tests look at the rest.
std::string without_lines(std::string text) {
    const std::string file = "emulation_kernels.cu:";
    for (auto at = text.find(file); at != std::string::npos; at = text.find(file, at + 1)) {
        const auto begin = text.rfind('(', at) + 1;
        text.replace(begin, text.find(')', at) - begin, "emulation_kernels.cu:N");
        at = begin;
    }
    return text;
}

std::vector<int> turns(int pool_threads, bool after_waits) {
    Stream stream = emulated_stream(pool_threads);
    std::vector<int> turn(3 * block_threads, -1), counters(3, 0);
    launch(stream, "note_turns", 3, block_threads, 0, after_waits ? note_turns_after_waits : note_turns, turn.data(),
           counters.data());
    return turn;
}

std::vector<int> turns(FiberOrder order, std::uint64_t seed, int pool_threads, bool after_waits) {
    const FiberOrderScope scope(order, seed);
    return turns(pool_threads, after_waits);
}

template <class T>
void check_exchange() {
    Stream stream = emulated_stream(2);
    const std::size_t count = 2 * block_threads;
    const std::vector<T> in = numbers<T>(count);
    for (const auto& [lane, delta] : {std::pair{0, 1}, {31, 16}, {35, 31}, {7, 5}}) {
        std::vector<T> out(3 * count);
        std::vector<unsigned> votes(count);
        launch(stream, "exchange", 2, block_threads, 0, exchange<T>, out.data(), votes.data(), in.data(), lane, delta);
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t warp = i / 32 * 32, own = i % 32;
            const auto shift = static_cast<std::size_t>(delta);
            unsigned expected_votes = 0;
            for (std::size_t l = 0; l < 32; ++l)
                expected_votes |= unsigned{static_cast<std::int64_t>(in[warp + l]) % 2 != 0} << l;
            CHECK(out[3 * i] == in[warp + static_cast<std::size_t>(lane) % 32]);
            CHECK(out[3 * i + 1] == in[own + shift < 32 ? i + shift : i]);
            CHECK(out[3 * i + 2] == in[warp + (own ^ shift)]);
            CHECK(votes[i] == expected_votes);
        }
    }
}

float element_of(const std::vector<float>& matrix, int columns, int row, int column) {
    return matrix[static_cast<std::size_t>(row * columns + column)];
}

void check_product(const std::vector<float>& d, const std::vector<float>& a, const std::vector<float>& b, int depth,
                   double relative) {
    for (int row = 0; row < 16; ++row)
        for (int column = 0; column < 8; ++column) {
            double sum = 0, scale = 0;
            for (int k = 0; k < depth; ++k) {
                const double product = static_cast<double>(element_of(a, depth, row, k)) * element_of(b, 8, k, column);
                sum += product;
                scale += std::abs(product);
            }
            CHECK(std::isfinite(element_of(d, 8, row, column)));
            CHECK(std::abs(element_of(d, 8, row, column) - sum) <= relative * scale);
        }
}

}  // namespace

TEST_CASE("emulation: every thread runs once, with its indices") {
    in_every_order([] {
        for (const int pool_threads : {1, 3}) {
            Stream stream = emulated_stream(pool_threads);
            const dim3 grid(3, 2, 4), block(5, 7, 3);
            std::vector<std::int64_t> out(24 * 105, -1);
            launch(stream, "write_indices", grid, block, 0, write_indices, out.data());
            std::size_t i = 0;
            for (std::int64_t bz = 0; bz < 4; ++bz)
                for (std::int64_t by = 0; by < 2; ++by)
                    for (std::int64_t bx = 0; bx < 3; ++bx)
                        for (std::int64_t z = 0; z < 3; ++z)
                            for (std::int64_t y = 0; y < 7; ++y)
                                for (std::int64_t x = 0; x < 5; ++x)
                                    CHECK(out[i++] == ((((x * 64 + y) * 64 + z) * 64 + bx) * 64 + by) * 64 + bz);
        }
    });
}

TEST_CASE("emulation: threads take turns forward, reversed or by a seed") {
    for (const bool after_waits : {false, true}) {
        CAPTURE(after_waits);
        std::vector<int> forward(3 * block_threads), reversed;
        for (std::size_t i = 0; i < forward.size(); ++i) forward[i] = static_cast<int>(i) % block_threads;
        for (const int turn : forward) reversed.push_back(block_threads - 1 - turn);
        CHECK(turns(FiberOrder::forward, 0, 2, after_waits) == forward);
        CHECK(turns(FiberOrder::reversed, 0, 2, after_waits) == reversed);

        const std::vector<int> random = turns(FiberOrder::random, 1, 1, after_waits);
        CHECK(random != forward);
        CHECK(random != reversed);
        CHECK(random == turns(FiberOrder::random, 1, 3, after_waits));
        CHECK(random != turns(FiberOrder::random, 2, 1, after_waits));
        CHECK(!std::equal(random.begin(), random.begin() + block_threads, random.begin() + block_threads));
        for (int block = 0; block < 3; ++block) {
            std::vector<int> sorted(random.begin() + block * block_threads,
                                    random.begin() + (block + 1) * block_threads);
            std::sort(sorted.begin(), sorted.end());
            CHECK(std::equal(sorted.begin(), sorted.end(), forward.begin()));
        }
    }
}

TEST_CASE("emulation: COVER_FIBER_ORDER holds until a test sets the order") {
    const char* before = std::getenv("COVER_FIBER_ORDER");
    const std::string kept = before ? before : "";
    for (const auto& [word, order] : {std::pair{"forward", FiberOrder::forward},
                                      {"reversed", FiberOrder::reversed},
                                      {"random", FiberOrder::random}}) {
        setenv("COVER_FIBER_ORDER", word, 1);
        CHECK(turns(2, true) == turns(order, 0, 1, true));
    }
    setenv("COVER_FIBER_ORDER", "sideways", 1);
    CHECK_THROWS_WITH(turns(2, true),
                      "[emulated] COVER_FIBER_ORDER is 'sideways'; it may be forward, reversed or random");
    unsetenv("COVER_FIBER_ORDER");
    if (before) setenv("COVER_FIBER_ORDER", kept.c_str(), 1);
}

TEST_CASE("emulation: shuffles and ballots of every type") {
    in_every_order([] {
        check_exchange<int>();
        check_exchange<unsigned>();
        check_exchange<float>();
        check_exchange<double>();
        check_exchange<std::int64_t>();
    });
}

TEST_CASE("emulation: parts of a warp meet apart") {
    in_every_order([] {
        Stream stream = emulated_stream(1);
        const std::vector<int> in = numbers<int>(block_threads);
        std::vector<int> out(block_threads);
        launch(stream, "sum_in_branches", 1, block_threads, 0, sum_in_branches, out.data(), in.data());
        for (std::size_t i = 0; i < block_threads; ++i) {
            const auto warp = in.begin() + static_cast<std::ptrdiff_t>(i / 32 * 32);
            CHECK(out[i] ==
                  (i % 32 < 12 ? std::accumulate(warp, warp + 12, 0) : std::accumulate(warp + 12, warp + 32, 0)));
        }
    });
}

TEST_CASE("emulation: a removed barrier or warp_sync shows in some order") {
    const std::vector<float> in = numbers<float>(2 * block_threads);
    const std::vector<int> whole = numbers<int>(block_threads);
    int wrong_sums = 0, wrong_warps = 0;
    in_every_order([&] {
        Stream stream = emulated_stream(1);
        for (const bool with_barrier : {true, false}) {
            std::vector<float> out(2);
            launch(stream, "sum_blocks", 2, block_threads, Shared::shared_bytes_of<float>(block_threads), sum_blocks,
                   out.data(), in.data(), with_barrier);
            const bool right = out[0] == std::accumulate(in.begin(), in.begin() + block_threads, 0.0f) &&
                               out[1] == std::accumulate(in.begin() + block_threads, in.end(), 0.0f);
            if (with_barrier) CHECK(right);
            wrong_sums += !right;

            std::vector<int> reversed(block_threads);
            launch(stream, "reverse_warps", 1, block_threads, Shared::shared_bytes_of<int>(block_threads),
                   reverse_warps, reversed.data(), whole.data(), with_barrier);
            bool same = true;
            for (std::size_t i = 0; i < block_threads; ++i) same &= reversed[i] == whole[i / 32 * 32 + 31 - i % 32];
            if (with_barrier) CHECK(same);
            wrong_warps += !same;
        }
    });
    CHECK(wrong_sums >= 1);
    CHECK(wrong_warps >= 1);
}

TEST_CASE("emulation: copies arrive at their wait, and only there") {
    constexpr int stages = 5, floats = stages * 4 * block_threads;
    constexpr std::int64_t wanted = floats - 40;
    in_every_order([&] {
        Stream stream = emulated_stream(1);
        Buffer<float> in(numbers<float>(floats));
        std::vector<float> out(floats);
        const std::size_t bytes = Shared::shared_bytes_of<float>(8 * block_threads);
        launch(stream, "double_through_copies", 1, block_threads, bytes, double_through_copies<true>, out.data(),
               in.data(), stages, wanted);
        for (std::int64_t i = 0; i < floats; ++i)
            CHECK(out[static_cast<std::size_t>(i)] == (i < wanted ? 2 * in.data()[i] : 0.0f));

        launch(stream, "double_through_copies", 1, block_threads, bytes, double_through_copies<false>, out.data(),
               in.data(), stages, wanted);
        CHECK(std::all_of(out.begin(), out.end(), [](float value) { return std::isnan(value); }));

        launch(stream, "wait_without_commit", 1, 1, 16, wait_without_commit, out.data(), in.data());
        CHECK(std::isnan(out[0]));
    });
}

TEST_CASE("emulation: matrix fragments against the plain product") {
    in_every_order([] {
        Stream stream = emulated_stream(1);
        // Whole numbers, whose sums are exact, then any numbers.
        for (const bool whole : {true, false}) {
            std::vector<float> a(16 * 16), b(16 * 8), d(16 * 8);
            const Tensor random_a = random_tensor({16, 16}, DType::float32, 1);
            const Tensor random_b = random_tensor({16, 8}, DType::float32, 2);
            std::vector<bfloat16> half_a, half_b;
            for (std::size_t i = 0; i < a.size(); ++i) {
                const float x = random_a.data<float>()[i];
                half_a.emplace_back(whole ? std::round(20 * x) : x);
                a[i] = half_a.back();
            }
            for (std::size_t i = 0; i < b.size(); ++i) {
                const float x = random_b.data<float>()[i];
                half_b.emplace_back(whole ? std::round(20 * x) : x);
                b[i] = half_b.back();
            }
            const double relative = whole ? 0 : 16 * std::ldexp(1, -24);
            launch(stream, "multiply_bf16", 1, 32, Shared::shared_bytes_of<bfloat16>(256) + 256, multiply_bf16,
                   d.data(), half_a.data(), half_b.data());
            check_product(d, a, b, 16, relative);

            std::vector<float> a8(16 * 8), b8(8 * 8);
            for (std::size_t i = 0; i < a8.size(); ++i) a8[i] = whole ? a[i] : random_a.data<float>()[i];
            for (std::size_t i = 0; i < b8.size(); ++i) b8[i] = whole ? b[i] : random_b.data<float>()[i];
            launch(stream, "multiply_tf32", 1, 32, 0, multiply_tf32, d.data(), a8.data(), b8.data());
            if (!whole)
                for (std::vector<float>* operand : {&a8, &b8})
                    for (float& x : *operand) x = std::bit_cast<float>(round_tf32(x));
            check_product(d, a8, b8, 8, relative);
        }
    });
}

TEST_CASE("emulation: what each lane gets of four matrices") {
    in_every_order([] {
        Stream stream = emulated_stream(1);
        std::vector<bfloat16> matrices(4 * 64);
        for (std::size_t i = 0; i < matrices.size(); ++i) matrices[i].bits = static_cast<std::uint16_t>(1000 + i);
        for (const bool transposed : {false, true}) {
            std::vector<unsigned> out(128);
            launch(stream, "load_fragments", 1, 32, 512, load_fragments, out.data(), matrices.data(), transposed);
            for (unsigned lane = 0; lane < 32; ++lane)
                for (unsigned matrix = 0; matrix < 4; ++matrix)
                    for (unsigned i = 0; i < 2; ++i) {
                        unsigned row = lane / 4, column = 2 * (lane % 4) + i;
                        if (transposed) std::swap(row, column);
                        CHECK((out[4 * lane + matrix] >> 16 * i & 0xffffu) == 1000 + 64 * matrix + 8 * row + column);
                    }
        }
    });
}

TEST_CASE("emulation: tf32 keeps ten bits of fraction, ties away from zero") {
    const Tensor values = random_tensor({1000}, DType::float32, 3, -4, 4);
    for (std::int64_t i = 0; i < 1003; ++i) {
        const float ties[] = {1 + std::ldexp(1.0f, -11), -1 - std::ldexp(3.0f, -11), 2 - std::ldexp(1.0f, -11)};
        const float value = i < 1000 ? values.data<float>()[i] : ties[i - 1000];
        int exponent = 0;
        const double fraction = std::frexp(static_cast<double>(value), &exponent);
        const double expected = std::ldexp(std::round(std::ldexp(fraction, 11)), exponent - 11);
        CHECK(static_cast<double>(std::bit_cast<float>(round_tf32(value))) == expected);
    }
    CHECK(std::isinf(std::bit_cast<float>(round_tf32(INFINITY))));
    CHECK(std::isnan(std::bit_cast<float>(round_tf32(NAN))));
}

TEST_CASE("emulation: threads that wait in vain are an error that says who waits where") {
    std::vector<int> out(block_threads);
    const auto sentence = [&](const char* name, void (*kernel)(int*), unsigned threads) {
        Stream stream = emulated_stream(2);
        return without_lines(error_of([&] { launch(stream, name, 2, threads, 0, kernel, out.data()); }));
    };
    in_every_order([&] {
        std::string error = sentence("shuffle_in_a_branch", shuffle_in_a_branch, 64);
        CHECK(contains(error, "[emulated] kernel shuffle_in_a_branch, block ("));
        CHECK(contains(error,
                       "no thread can go on: threads 0-7, 32-39 wait at shuffle (emulation_kernels.cu:N) with mask "
                       "0xffffffff for lanes 8-31; threads 8-31, 40-63 wait at block_sync (emulation_kernels.cu:N). "));

        error = sentence("return_before_block_sync", return_before_block_sync, 128);
        CHECK(contains(error, "threads 0-99 wait at block_sync (emulation_kernels.cu:N); threads 100-127 returned. "));

        error = sentence("sync_at_two_places", sync_at_two_places, 128);
        CHECK(contains(error,
                       "threads 0-63 wait at block_sync (emulation_kernels.cu:N); threads 64-127 wait at block_sync "
                       "(emulation_kernels.cu:N). "));

        error = sentence("two_collectives", two_collectives, 32);
        CHECK(contains(error,
                       "threads 0-2 wait at shuffle_xor (emulation_kernels.cu:N) with mask 0xffffffff for lanes 3-31; "
                       "threads 3-31 wait at shuffle_down (emulation_kernels.cu:N) with mask 0xffffffff for lanes "
                       "0-2. "));

        error = sentence("one_collective_at_two_places", one_collective_at_two_places, 32);
        CHECK(contains(error,
                       "threads 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30 wait at shuffle_xor "
                       "(emulation_kernels.cu:N) with mask 0xffffffff for lanes 1, 3, 5, "));

        error = sentence("exited_lane_in_mask", exited_lane_in_mask, 32);
        CHECK(contains(error,
                       "threads 0-30 wait at shuffle (emulation_kernels.cu:N) with mask 0xffffffff for lane 31; "
                       "thread 31 returned. "));

        // A warp of 20 lanes has no lane 31 either.
        CHECK(contains(sentence("shuffle_in_a_branch", shuffle_in_a_branch, 8), "for lanes 8-31. "));

        error = sentence("mask_without_itself", mask_without_itself, 32);
        CHECK(contains(error,
                       "thread 3, lane 3 of its warp, calls shuffle (emulation_kernels.cu:N) with a mask that "
                       "does not name it"));
    });
}

TEST_CASE("emulation: shared memory is what the launch asked for") {
    in_every_order([] {
        Stream stream = emulated_stream(1);
        std::vector<float> out(block_threads);
        const std::size_t enough = Shared::shared_bytes_of<float>(64) + Shared::shared_bytes_of<float>(65);
        CHECK(enough == 256 + 272);
        const auto taking = [&](std::size_t bytes) {
            return error_of([&] { launch(stream, "take_two_tiles", 1, 32, bytes, take_two_tiles, out.data()); });
        };
        CHECK(taking(enough) == "");
        CHECK(contains(taking(enough - 16),
                       "kernel take_two_tiles, block (0, 0, 0): piece 1 of Shared needs 272 bytes "
                       "behind the 256 that are taken, more than the launch's 512"));
        CHECK(contains(taking(228 * 1024), "a GPU gives a block at most 232448"));
        CHECK(contains(error_of([&] { launch(stream, "take_by_thread", 1, 32, 128, take_by_thread, out.data()); }),
                       "every thread takes the same pieces"));
        launch(stream, "take_by_thread", 1, 1, 128, take_by_thread, out.data());
        CHECK(std::isnan(out[0]));
    });
}

#ifndef __SANITIZE_ADDRESS__  // which stops at the write itself
TEST_CASE("emulation: a write next to a tile is found when the block ends") {
    Stream stream = emulated_stream(1);
    float out = 0;
    CHECK(contains(error_of([&] { launch(stream, "write_past_tile", 1, 1, 256, write_past_tile, &out); }),
                   "something was written next to piece 0 of Shared"));
}
#endif

TEST_CASE("emulation: a copy that a GPU would refuse is an error") {
    Stream stream = emulated_stream(1);
    Buffer<float> in(numbers<float>(16));
    CHECK(contains(error_of([&] { launch(stream, "copy_past_tile", 1, 4, 48, copy_past_tile, in.data()); }),
                   "thread 3 copies 16 bytes to a place that is not within one piece of Shared"));
    CHECK(contains(error_of([&] { launch(stream, "copy_off_alignment", 1, 1, 32, copy_off_alignment, in.data()); }),
                   "no multiple of 16"));
}

TEST_CASE("emulation: an exception in a thread arrives, and every stack is unwound") {
    in_every_order([] {
        Stream stream = emulated_stream(1);
        int destroyed = 0;
        CHECK_THROWS_WITH(launch(stream, "throw_in_thread_five", 4, block_threads, 0, throw_in_thread_five, &destroyed),
                          "thread 5 of block 2");
        CHECK(destroyed == 3 * block_threads);  // block 3 is not begun
        std::vector<int> out(block_threads);
        CHECK_THROWS_WITH(launch(stream, "catch_and_wait_again", 1, block_threads, 0, catch_and_wait_again, out.data()),
                          "thread 0");
        CHECK(out == std::vector<int>(block_threads));
        // The runtime is as good as new.
        std::vector<int> turn(block_threads), counters(1);
        launch(stream, "note_turns_after_waits", 1, block_threads, 0, note_turns_after_waits, turn.data(),
               counters.data());
        CHECK(counters[0] == block_threads);
    });
}

TEST_CASE("emulation: sizes that no GPU takes, and launches from kernels, are errors") {
    Stream stream = emulated_stream(1);
    int out = 0;
    const auto launching = [&](dim3 grid, dim3 block) {
        return error_of([&] { launch(stream, "mask_without_itself", grid, block, 0, mask_without_itself, &out); });
    };
    CHECK(contains(launching(1, dim3(32, 33)), "blocks of 32 x 33 x 1 threads"));
    CHECK(contains(launching(1, dim3(1, 1, 65)), "64 along z"));
    CHECK(contains(launching(1, 0), "blocks of 0 x 1 x 1 threads"));
    CHECK(contains(launching(0, 32), "a grid of 0 x 1 x 1 blocks"));
    CHECK(contains(launching(dim3(1, 65536), 32), "a grid of 1 x 65536 x 1 blocks"));
    CHECK_THROWS_WITH(launch(stream, "launch_inside", 1, 1, 0, launch_inside, &stream),
                      "[emulated] kernel inner is launched from inside a kernel");
    CHECK_THROWS_WITH(block_sync(), "[emulated] block_sync was called outside a kernel");
}

}  // namespace cover::test
