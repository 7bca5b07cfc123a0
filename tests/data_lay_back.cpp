// Back from a stored grid, and the .npy writer.
#include <cmath>
#include <cstring>

#include "core/file.h"
#include "data/lay_back.h"
#include "data/npy.h"
#include "tests/support.h"

namespace cover {
namespace {

Affine axes(const Point& scale, const Point& shift) { return Affine::scale_shift(scale, shift); }

}  // namespace

TEST_CASE("lay back: a linear ramp comes back as the same ramp, whatever the scale, order and direction of the axes") {
    ThreadPool pool(2);
    const Grid stored{3, 9, 14, 11};
    std::vector<float> ramp;
    for (int d = 0; d < stored.d; ++d)
        for (int h = 0; h < stored.h; ++h)
            for (int w = 0; w < stored.w; ++w) {
                ramp.push_back(static_cast<float>(2 * d - 3 * h + 0.5 * w));
                ramp.push_back(static_cast<float>(d));
            }
    // Target index (d, h, w) -> stored index: axes exchanged, one reversed, steps of 0.5, 1.25 and 0.7.
    Affine to_stored;
    to_stored.m = {0, 0.5, 0, 0.25, -1.25, 0, 0, 12.5, 0, 0, 0.7, 1, 0, 0, 0, 1};
    const Grid target{3, 10, 16, 14};
    const auto out = lay_back(ramp.data(), stored, 2, target, to_stored, pool);
    std::size_t at = 0;
    for (int d = 0; d < target.d; ++d)
        for (int h = 0; h < target.h; ++h)
            for (int w = 0; w < target.w; ++w, at += 2) {
                const double x = 0.5 * h + 0.25, y = 12.5 - 1.25 * d, z = 0.7 * w + 1;
                REQUIRE(x <= 8);
                REQUIRE(y >= 0);
                REQUIRE(y <= 13);
                const double inside = std::min(z, 10.0);  // the last one lies 0.1 behind the last centre
                CHECK(out[at] == doctest::Approx(2 * x - 3 * y + 0.5 * inside).epsilon(1e-5));
                CHECK(out[at + 1] == doctest::Approx(x).epsilon(1e-5));
            }
    ThreadPool one(1);
    CHECK(lay_back(ramp.data(), stored, 2, target, to_stored, one) == out);
}

TEST_CASE("lay back: the edge holds for three quarters of a pixel, then there is nothing") {
    ThreadPool pool(1);
    const Grid stored{2, 1, 1, 4}, target{2, 1, 1, 9};
    const std::vector<float> values{10, 20, 30, 40};
    // Steps of a quarter pixel from -1.
    const Affine from_left = axes({1, 1, 0.25}, {0, 0, -1});
    const auto out = lay_back(values.data(), stored, 1, target, from_left, pool);
    CHECK(out == std::vector<float>{0, 10, 10, 10, 10, 12.5f, 15, 17.5f, 20});
    const auto labels = lay_back_labels({1, 2, 3, 4}, stored, target, from_left, pool);
    CHECK(labels == std::vector<std::uint8_t>{0, 1, 1, 1, 1, 1, 2, 2, 2});
    const auto right = lay_back(values.data(), stored, 1, target, axes({1, 1, 0.25}, {0, 0, 2.5}), pool);
    CHECK(right == std::vector<float>{35, 37.5f, 40, 40, 40, 40, 0, 0, 0});
}

TEST_CASE("npy: the header of version 1.0, its data at a multiple of 64") {
    const test::TemporaryFolder folder;
    const auto path = folder.path() + "/a.npy";
    write_npy(path, {2, 3}, {0, 1, 2, 3, 4, 5.5f});
    const std::string bytes = read_file(path);
    REQUIRE(bytes.size() == 128 + 24);
    CHECK(bytes.substr(0, 10) == std::string("\x93NUMPY\x01\x00\x76\x00", 10));  // 118 = 128 - 10
    CHECK(bytes.substr(10, 60) == "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), } ");
    CHECK(bytes[127] == '\n');
    float last = 0;
    std::memcpy(&last, bytes.data() + bytes.size() - 4, 4);
    CHECK(last == 5.5f);
    CHECK(npy_header({7}).find("'shape': (7,), }") != std::string::npos);
    CHECK(npy_header({123456789, 1, 2, 3}).size() % 64 == 0);
}

}  // namespace cover
