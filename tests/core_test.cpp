#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <thread>

#include "core/device.h"
#include "core/hash.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "core/tensor.h"
#include "tests/support.h"

namespace cover::test {
namespace {

ErrorKind kind_of(const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.kind();
    }
    throw std::runtime_error("no error was thrown");
}

std::string sha256_of(const std::string& bytes) {
    Sha256 hash;
    hash.update(bytes.data(), bytes.size());
    return hash.hex();
}

}  // namespace

TEST_CASE("shape: count, order and text") {
    const Shape shape{2, 3, 4};
    CHECK(shape.rank() == 3);
    CHECK(shape.count() == 24);
    CHECK(Shape{}.count() == 1);
    CHECK(Shape{5, 0}.count() == 0);
    CHECK(shape.to_string() == "(2, 3, 4)");
    CHECK(Shape{7}.to_string() == "(7,)");
    CHECK(shape == Shape{2, 3, 4});
    CHECK_FALSE(shape == Shape{2, 3});
    CHECK_FALSE(shape == Shape{2, 4, 3});
    CHECK(Shape{3000000, 3000000}.count() == 9000000000000);
    CHECK(kind_of([] { (void)Shape{1, 2, 3, 4, 5, 6, 7}; }) == ErrorKind::internal);
    CHECK(kind_of([] { (void)Shape{1, -2}; }) == ErrorKind::internal);
}

TEST_CASE("bfloat16: rounds to nearest, ties to even, NaN stays NaN") {
    const auto bits = [](float value) { return bfloat16(value).bits; };
    CHECK(bits(1.0f) == 0x3f80);
    CHECK(bits(-2.0f) == 0xc000);
    CHECK(bits(std::bit_cast<float>(0x3f807fffu)) == 0x3f80);  // below the middle
    CHECK(bits(std::bit_cast<float>(0x3f808000u)) == 0x3f80);  // the middle, even below
    CHECK(bits(std::bit_cast<float>(0x3f808001u)) == 0x3f81);
    CHECK(bits(std::bit_cast<float>(0x3f818000u)) == 0x3f82);  // the middle, even above
    CHECK(bits(std::bit_cast<float>(0x3fffffffu)) == 0x4000);  // carries into the exponent
    CHECK(bits(std::numeric_limits<float>::max()) == 0x7f80);
    CHECK(bits(std::numeric_limits<float>::infinity()) == 0x7f80);
    CHECK(bits(-0.0f) == 0x8000);
    CHECK(std::isnan(static_cast<float>(bfloat16(std::nanf("")))));
    CHECK(std::isnan(static_cast<float>(bfloat16(std::bit_cast<float>(0x7f800001u)))));
    CHECK(static_cast<float>(bfloat16(0.1f)) == 0.10009765625f);
}

TEST_CASE("tensor: copies share, clones do not") {
    Tensor a = Tensor::zeros({2, 3});
    Tensor shared = a, cloned = a.clone();
    a.fill(5);
    CHECK(shared.data<float>()[5] == 5);
    CHECK(cloned.data<float>()[5] == 0);
    CHECK_FALSE(Tensor().defined());
    CHECK_FALSE(static_cast<bool>(Tensor().view()));
    CHECK(a.bytes() == 24);
    CHECK(a.side(1) == 3);
    CHECK(reinterpret_cast<std::uintptr_t>(a.view().data) % Storage::alignment == 0);
}

TEST_CASE("tensor: reshaped and sliced views") {
    Tensor a = Tensor::zeros({2, 6}, DType::float64);
    for (int i = 0; i < 12; ++i) a.data<double>()[i] = i;
    CHECK(a.reshaped({3, 4}).data<double>()[11] == 11);
    CHECK(kind_of([&] { (void)a.reshaped({5}); }) == ErrorKind::internal);
    Tensor row = a.slice(6, {6});
    CHECK(row.data<double>()[0] == 6);
    CHECK(row.slice(2, {2, 2}).data<double>()[3] == 11);
    row.fill(-1);
    CHECK(a.data<double>()[5] == 5);
    CHECK(a.data<double>()[6] == -1);
    CHECK(kind_of([&] { (void)a.slice(7, {6}); }) == ErrorKind::internal);
    CHECK(kind_of([&] { (void)row.slice(1, {6}); }) == ErrorKind::internal);
    CHECK(kind_of([&] { (void)a.slice(-1, {1}); }) == ErrorKind::internal);
    CHECK(kind_of([&] { (void)a.data<float>(); }) == ErrorKind::internal);
}

TEST_CASE("tensor: converted between storage types") {
    Tensor a = Tensor::zeros({3}, DType::float64);
    a.data<double>()[0] = 1.0 / 3;
    a.data<double>()[1] = -2;
    a.data<double>()[2] = 1e-320;
    const Tensor single = a.converted(DType::float32), half = a.converted(DType::bfloat16);
    CHECK(single.data<float>()[0] == 1.0f / 3.0f);
    CHECK(single.data<float>()[2] == 0);
    CHECK(half.data<bfloat16>()[0].bits == bfloat16(1.0f / 3.0f).bits);
    CHECK(half.converted(DType::float64).data<double>()[1] == -2);
}

TEST_CASE("storage: freed blocks are used again, the peak is kept") {
    release_unused_memory();
    reset_memory_peak();
    const MemoryStatistics before = memory_statistics();
    [[maybe_unused]] void* first = nullptr;
    {
        const Tensor a = Tensor::empty({1 << 20});
        first = const_cast<void*>(a.view().data);
        CHECK(memory_statistics().in_use - before.in_use == std::size_t{4} << 20);
    }
    CHECK(memory_statistics().in_use == before.in_use);
    CHECK(memory_statistics().peak - before.in_use >= std::size_t{4} << 20);
#ifndef __SANITIZE_ADDRESS__  // under which each tensor is an allocation of its own
    CHECK(memory_statistics().held > before.held);
    {
        const Tensor b = Tensor::empty({1 << 20});
        CHECK(b.view().data == first);
    }
#endif
    release_unused_memory();
    CHECK(memory_statistics().held <= before.held);
    reset_memory_peak();
    CHECK(memory_statistics().peak == memory_statistics().in_use);
}

TEST_CASE("storage: more than there is, is an error that says so") {
#ifdef __SANITIZE_ADDRESS__
    return skip("the address sanitizer ends the program on such a request");
#endif
    CHECK(kind_of([] { (void)Tensor::empty({std::int64_t{1} << 50}); }) == ErrorKind::device);
}

TEST_CASE("parallel: every task once, by every number of threads") {
    for (const int threads : {1, 2, 3, 5}) {
        ThreadPool pool(threads);
        CHECK(pool.threads() == threads);
        for (const std::int64_t tasks : {0, 1, 2, 3, 100, 1000}) {
            std::vector<std::atomic<int>> seen(static_cast<std::size_t>(tasks));
            pool.run(tasks, [&](std::int64_t task) { ++seen[static_cast<std::size_t>(task)]; });
            bool once = true;
            for (const auto& count : seen) once = once && count == 1;
            CHECK(once);
        }
    }
    CHECK(kind_of([] { ThreadPool pool(0); }) == ErrorKind::configuration);
}

TEST_CASE("parallel: more than one thread takes part") {
    ThreadPool pool(2);
    // Both tasks wait for each other: one thread alone would stop here until the limit.
    std::atomic<int> inside = 0;
    std::atomic<bool> met = false;
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    pool.run(2, [&](std::int64_t) {
        ++inside;
        while (!met && std::chrono::steady_clock::now() < limit) {
            if (inside == 2) met = true;
            std::this_thread::yield();
        }
    });
    CHECK(met);
}

TEST_CASE("parallel: an exception reaches the caller and the pool goes on") {
    for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        for (int round = 0; round < 20; ++round) {
            CHECK(kind_of([&] {
                      pool.run(50, [](std::int64_t task) { require(task != 7, ErrorKind::data, "task seven"); });
                  }) == ErrorKind::data);
            std::atomic<int> count = 0;
            pool.run(50, [&](std::int64_t) { ++count; });
            CHECK(count == 50);
        }
    }
}

TEST_CASE("parallel: a run inside a run is done by its caller") {
    ThreadPool pool(3);
    std::atomic<int> count = 0;
    pool.run(10, [&](std::int64_t) {
        const auto outer = std::this_thread::get_id();
        pool.run(10, [&](std::int64_t) {
            if (std::this_thread::get_id() == outer) ++count;
        });
    });
    CHECK(count == 100);
}

TEST_CASE("philox: the known answers of its authors") {
    CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) == PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}) ==
          PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
          PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("random streams: each part of the key matters, and the position alone decides") {
    const RandomKey key{.seed = 7, .epoch = 1, .sample = 2, .purpose = Purpose::affine, .attempt = 3};
    std::vector<RandomKey> keys(7, key);
    keys[1].seed = 8;
    keys[2].seed += std::uint64_t{1} << 32;
    keys[3].epoch = 2;
    keys[4].sample = 1;
    keys[5].purpose = Purpose::elastic;
    keys[6].attempt = 4;
    std::set<PhiloxBlock> blocks;
    for (const RandomKey& k : keys) blocks.insert(RandomStream(k).block(0));
    CHECK(blocks.size() == keys.size());

    RandomStream a(key), b(key);
    for (std::uint32_t i = 0; i < 12; ++i) CHECK(a.next() == b.block(i / 4)[i % 4]);
    for (std::uint32_t i = 0; i < 12; ++i) CHECK(b.next() == RandomStream(key).block(i / 4)[i % 4]);
}

TEST_CASE("random streams: ranges and moments") {
    RandomStream stream({.seed = 3});
    constexpr int draws = 40000;
    double sum = 0, squares = 0, normal_sum = 0, normal_squares = 0, normal_fourth = 0;
    std::array<int, 3> seen{};
    for (int i = 0; i < draws; ++i) {
        const double u = stream.uniform(), z = stream.normal();
        REQUIRE((u >= 0 && u < 1));
        sum += u;
        squares += u * u;
        normal_sum += z;
        normal_squares += z * z;
        normal_fourth += z * z * z * z;
        const std::int64_t k = stream.below(3);
        REQUIRE((k >= 0 && k < 3));
        ++seen[static_cast<std::size_t>(k)];
    }
    // Five standard deviations of each mean.
    const double root = 5 / std::sqrt(static_cast<double>(draws));
    CHECK(std::abs(sum / draws - 0.5) <= root * std::sqrt(1.0 / 12));
    CHECK(std::abs(squares / draws - 1.0 / 3) <= root * std::sqrt(4.0 / 45));
    CHECK(std::abs(normal_sum / draws) <= root);
    CHECK(std::abs(normal_squares / draws - 1) <= root * std::sqrt(2.0));
    CHECK(std::abs(normal_fourth / draws - 3) <= root * std::sqrt(96.0));
    for (const int count : seen)
        CHECK(std::abs(count / static_cast<double>(draws) - 1.0 / 3) <= root * std::sqrt(2.0 / 9));
    CHECK(stream.below(1) == 0);
    const RandomStream at({.seed = 3});
    for (std::uint64_t i = 0; i < 1000; ++i) REQUIRE((at.uniform_at(i) >= 0 && at.uniform_at(i) < 1));
    for (const double z : normals({0, 0, 0xffffffff, 0xffffffff})) CHECK(std::isfinite(z));
}

TEST_CASE("sha256: the known answers of FIPS 180-4") {
    CHECK(sha256_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    CHECK(sha256_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(sha256_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
          "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    Sha256 pieces;
    const std::string thousand(1000, 'a');
    for (int i = 0; i < 1000; ++i) pieces.update(thousand.data(), thousand.size());
    CHECK(pieces.hex() == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    // Cut at every place around a block.
    const std::string text_(130, 'x');
    for (std::size_t cut = 0; cut <= text_.size(); ++cut) {
        Sha256 hash;
        hash.update(text_.data(), cut);
        hash.update(text_.data() + cut, text_.size() - cut);
        REQUIRE(hash.hex() == sha256_of(text_));
    }
}

TEST_CASE("sha256: of a file, and of one that is not there") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/abc";
    std::ofstream(path) << "abc";
    CHECK(sha256_of_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(kind_of([&] { (void)sha256_of_file(folder.path() + "/absent"); }) == ErrorKind::io);
}

TEST_CASE("errors: a sentence of parts, with numbers in full") {
    CHECK(text("[x] ", 3, " of ", 0.1, " ", true, " ", std::int64_t{-9000000000}, " ", std::size_t{7}) ==
          "[x] 3 of 0.1 true -9000000000 7");
    CHECK(kind_of([] { require(false, ErrorKind::io, "no"); }) == ErrorKind::io);
    CHECK_NOTHROW(require(true, ErrorKind::io, "no"));
}

TEST_CASE("guard bands notice a write on either side") {
    Guarded guarded(5, DType::float32);
    CHECK(guarded.intact());
    guarded.fill(3);
    CHECK(guarded.intact());
    static_cast<float*>(guarded.view().data)[5] = 0;
    CHECK_FALSE(guarded.intact());
    Guarded other(5, DType::float64);
    static_cast<double*>(other.view().data)[-1] = 0;
    CHECK_FALSE(other.intact());
}

}  // namespace cover::test
