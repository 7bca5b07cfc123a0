// Barriers, boxes, products and syncs of a warpgroup on a CPU: what the emulation computes, in three orders of threads,
// and what it must not let through. Its kernels are in tests/emulation_hopper_kernels.cu.
#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

#include "tests/emulation_hopper_kernels.h"
#include "tests/emulation_support.h"
#include "tests/support.h"

namespace cover::test {
namespace {

using namespace cuda::emulated;
using hopper::tensor_map;
using hopper::TensorMap;

// Rows of bfloat16 with the map of boxes of them.
struct Rows {
    Rows(std::int64_t rows_, std::int64_t columns_, std::uint32_t seed = 1)
        : rows(rows_), columns(columns_), tensor(Tensor::empty({rows, columns}, DType::bfloat16)) {
        const Tensor values = random_tensor({rows, columns}, DType::float32, seed, -8, 8);
        for (std::int64_t i = 0; i < rows * columns; ++i)
            bits()[i] = bfloat16(std::round(values.data<float>()[i])).bits;  // whole numbers: sums are exact
    }
    std::uint16_t* bits() { return static_cast<std::uint16_t*>(tensor.view().data); }
    float at(std::int64_t row, std::int64_t column) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(bits()[row * columns + column]) << 16);
    }
    TensorMap map(int width, int height) { return tensor_map<2>(bits(), {columns, rows}, {width, height}); }

    std::int64_t rows, columns;
    Tensor tensor;
};

constexpr int box_rows = 20;

// The words of a box as copy_one_box leaves them.
std::vector<unsigned> copied(const TensorMap& map, int c0, int c1, Mistake mistake) {
    Stream stream = cpu_stream(1);
    const int bytes = box_rows * 2 * map.box[0];
    std::vector<unsigned> out(static_cast<std::size_t>(bytes) / 4);
    launch(stream, "copy_one_box", 1, 128, 1024 + static_cast<std::size_t>(bytes) + 8, copy_one_box, out.data(), map,
           bytes, c0, c1, mistake);
    return out;
}

std::string copy_error(Mistake mistake) {
    Rows rows(64, 64);
    return error_of([&] {
        copied(mistake == Mistake::no_map ? TensorMap{nullptr, 0, {}, {64}} : rows.map(64, box_rows), 0, 0, mistake);
    });
}

template <int count, int a_mn_major, int b_mn_major, int row>
std::vector<float> product(Rows& a, Rows& b, Mistake mistake = Mistake::none) {
    Stream stream = cpu_stream(1);
    std::vector<float> d(64 * 2 * count, -1);
    launch(stream, "multiply_once", 1, 128, 64 * 1024, multiply_once<count, a_mn_major, b_mn_major, row>, d.data(),
           a.map(row, a_mn_major ? 16 : 64), b.map(row, b_mn_major ? 16 : 2 * count), mistake);
    return d;
}

template <int count, int a_mn_major, int b_mn_major, int row>
void check_product() {
    constexpr int columns = 2 * count;
    Rows a = a_mn_major ? Rows(16, 64, 3) : Rows(64, row, 3);
    Rows b = b_mn_major ? Rows(16, columns, 4) : Rows(columns, row, 4);
    const std::vector<float> d = product<count, a_mn_major, b_mn_major, row>(a, b);
    for (int m = 0; m < 64; ++m)
        for (int n = 0; n < columns; ++n) {
            float sum = 0;
            for (int k = 0; k < 16; ++k)
                sum += (a_mn_major ? a.at(k, m) : a.at(m, k)) * (b_mn_major ? b.at(k, n) : b.at(n, k));
            CHECK(d[static_cast<std::size_t>(m * columns + n)] == 2 * sum);
        }
}

std::string product_error(Mistake mistake) {
    Rows a(64, 64, 3), b(64, 64, 4);
    return error_of([&] { product<32, 0, 0, 64>(a, b, mistake); });
}

constexpr int ring_steps = 9;

// The largest error of multiply_through_ring; infinite where a value is no number.
double ring_error(Mistake mistake) {
    Stream stream = cpu_stream(1);
    Rows a(64 * ring_steps, 64, 5), b(64 * ring_steps, 64, 6);
    std::vector<float> sums(64 * 64, -1);
    launch(stream, "multiply_through_ring", 1, ring_threads, ring_bytes, multiply_through_ring, sums.data(),
           a.map(64, 64), b.map(64, 64), ring_steps, mistake);
    double worst = 0;
    for (int m = 0; m < 64; ++m)
        for (int n = 0; n < 64; ++n) {
            float sum = 0;
            for (int step = 0; step < ring_steps; ++step)
                for (int k = 0; k < 64; ++k) sum += a.at(64 * step + m, k) * b.at(64 * step + n, k);
            const double error = std::abs(sums[static_cast<std::size_t>(64 * m + n)] - sum);
            worst = std::isnan(error) ? INFINITY : std::max(worst, error);
        }
    return worst;
}

// Whether each of two warpgroups has reversed its half of the numbers.
bool warpgroups_reverse(Mistake mistake) {
    std::vector<int> in(256), out(256);
    for (std::size_t i = 0; i < in.size(); ++i) in[i] = static_cast<int>(i * i % 997);
    Stream stream = cpu_stream(1);
    launch(stream, "reverse_warpgroups", 1, 256, Shared::shared_bytes_of<int>(256), reverse_warpgroups, out.data(),
           in.data(), mistake);
    for (std::size_t i = 0; i < in.size(); ++i)
        if (out[i] != in[i / 128 * 128 + 127 - i % 128]) return false;
    return true;
}

}  // namespace

TEST_CASE("emulation of Hopper: a box lands swizzled, with zeros around the tensor") {
    in_every_order([] {
        Rows rows(50, 136);
        for (const int width : {64, 32})
            for (const auto& [c0, c1] : {std::pair{0, 0}, {64, 30}, {96, 40}, {-5, -3}, {130, 49}}) {
                const std::vector<unsigned> words = copied(rows.map(width, box_rows), c0, c1, Mistake::none);
                for (int row = 0; row < box_rows; ++row)
                    for (int column = 0; column < width; ++column) {
                        const int byte = (row * width + column) * 2, piece = byte / 16, line = byte / 128;
                        const int at = (piece ^ line % (width / 8)) * 16 + byte % 16;
                        const unsigned word = words[static_cast<std::size_t>(at / 4)];
                        const int r = c1 + row, c = c0 + column;
                        const bool inside = r >= 0 && r < 50 && c >= 0 && c < 136;
                        CHECK((word >> 8 * (at % 4) & 0xffffu) == (inside ? rows.bits()[r * 136 + c] : 0u));
                    }
            }
    });
}

TEST_CASE("emulation of Hopper: a box that was not waited for reads as poison") {
    in_every_order([] {
        Rows rows(64, 64);
        for (const Mistake mistake : {Mistake::no_wait, Mistake::wrong_parity}) {
            std::vector<unsigned> words(1);
            // Waiting for the wrong parity returns at once, and the box is still under way when the block ends.
            const std::string error = error_of([&] { words = copied(rows.map(64, box_rows), 0, 0, mistake); });
            CHECK(contains(error, "boxes are under way when the block ends") == (mistake == Mistake::wrong_parity));
            if (mistake == Mistake::no_wait)
                CHECK(std::any_of(words.begin(), words.end(), [](unsigned word) { return word == ~0u; }));
        }
    });
}

TEST_CASE("emulation of Hopper: wrong barriers and boxes are errors") {
    in_every_order([] {
        CHECK(copy_error(Mistake::none) == "");
        const std::string deadlock = copy_error(Mistake::one_wait_more);
        CHECK(contains(deadlock,
                       "[emulated] kernel copy_one_box, block (0, 0, 0): no thread can go on: threads 0-127 wait at "
                       "barrier_wait ("));
        CHECK(contains(deadlock, "emulation_hopper_kernels.cu:"));
        CHECK(contains(deadlock, ") for phase 1, parity 1, of the barrier at byte "));
        CHECK(contains(deadlock, " of shared memory, where 1 of 1 arrivals and 0 bytes are missing. "));
        CHECK(contains(copy_error(Mistake::two_more_arrive),
                       "although all 1 arrivals of the barrier's phase 0 have been there and 2560 bytes are missing"));
        CHECK(contains(copy_error(Mistake::no_init), "for a place that holds no barrier"));
        CHECK(contains(copy_error(Mistake::two_inits), "for a barrier that is initialised already"));
        CHECK(contains(copy_error(Mistake::off_alignment),
                       "to a place that is not 2560 bytes of shared memory, aligned to 128"));
        CHECK(contains(copy_error(Mistake::past_the_end),
                       "to a place that is not 2560 bytes of shared memory, aligned to 128"));
        CHECK(contains(copy_error(Mistake::no_map), "calls copy_box ("));
        CHECK(contains(copy_error(Mistake::no_map), "with 2 places for a map of 0 axes"));
        CHECK(contains(copy_error(Mistake::left_under_way), "1 boxes are under way when the block ends"));
    });
}

TEST_CASE("emulation of Hopper: a map that the TMA would refuse is an error") {
    Rows rows(64, 64);
    const auto refused = [](const auto& make) { return contains(error_of(make), "the TMA would refuse this tensor"); };
    CHECK(!refused([&] { rows.map(64, 8); }));
    CHECK(refused([&] { rows.map(16, 8); }));
    CHECK(refused([&] { rows.map(64, 257); }));
    CHECK(refused([&] { tensor_map<2>(rows.bits() + 1, {64, 8}, {64, 8}); }));
    CHECK(refused([&] { tensor_map<2>(rows.bits(), {60, 8}, {64, 8}); }));
}

TEST_CASE("emulation of Hopper: products of a warpgroup against plain loops") {
    in_every_order([] {
        check_product<16, 0, 0, 64>();
        check_product<16, 1, 1, 32>();
        check_product<32, 0, 0, 32>();
        check_product<32, 1, 0, 64>();
        check_product<32, 0, 1, 64>();
        check_product<48, 0, 0, 64>();
        check_product<48, 1, 1, 32>();
        check_product<64, 1, 1, 64>();
        check_product<96, 0, 0, 64>();
        check_product<96, 1, 1, 64>();
    });
}

TEST_CASE("emulation of Hopper: sums are poison until their products are waited for") {
    in_every_order([] {
        Rows a(64, 64, 3), b(64, 64, 4);
        for (const float sum : product<32, 0, 0, 64>(a, b, Mistake::no_wait)) CHECK(std::isnan(sum));
        CHECK(product_error(Mistake::none) == "");
        CHECK(contains(product_error(Mistake::no_commit), "returns while products are under way"));
        CHECK(contains(product_error(Mistake::left_under_way), "returns while products are under way"));
        CHECK(contains(product_error(Mistake::one_warp_differs),
                       "warp 0 has begun 2 products and warp 3 of its warpgroup 1"));
    });
}

TEST_CASE("emulation of Hopper: a ring of stages, and what it shows of a wait that is missing") {
    int wrong = 0;
    in_every_order([&] {
        CHECK(ring_error(Mistake::none) == 0);
        CHECK(ring_error(Mistake::early_arrival) > 0);
        double without_wait = 0;
        const std::string error = error_of([&] { without_wait = ring_error(Mistake::no_empty_wait); });
        wrong += without_wait > 0 || !error.empty();
    });
    CHECK(wrong == 3);
}

TEST_CASE("emulation of Hopper: warpgroups wait for themselves") {
    in_every_order([&] {
        CHECK(warpgroups_reverse(Mistake::none));
        CHECK(contains(error_of([&] { warpgroups_reverse(Mistake::shared_number); }), "each has a number of its own"));
    });
}

TEST_CASE("emulation of Hopper: a removed barrier of a warpgroup changes the result") {
    int wrong = 0;
    in_every_order([&] { wrong += !warpgroups_reverse(Mistake::no_sync); });
    CHECK(wrong == 3);
}

}  // namespace cover::test
