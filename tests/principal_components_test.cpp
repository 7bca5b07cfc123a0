#include "cover/principal_components.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/support.h"

namespace cover {
namespace {

std::vector<float> random_rows(std::int64_t count, std::int64_t channels) {
    const Tensor t = test::random_tensor({count, channels}, DType::float32, 11);
    return {t.data<float>(), t.data<float>() + count * channels};
}

}  // namespace

TEST_CASE("components: a case that can be worked out by hand") {
    // Coordinates (a, b) along (0.6, 0.8) and (-0.8, 0.6), about (10, -4): variances 16 and 1.
    std::vector<float> rows;
    for (const double a : {-4.0, 4.0})
        for (const double b : {-1.0, 1.0}) {
            rows.push_back(static_cast<float>(10 + 0.6 * a - 0.8 * b));
            rows.push_back(static_cast<float>(-4 + 0.8 * a + 0.6 * b));
        }
    ComponentAnalysis analysis(2);
    analysis.add(rows.data(), 4);
    const auto found = analysis.result(3);
    REQUIRE(found.count() == 2);
    CHECK(found.mean[0] == doctest::Approx(10));
    CHECK(found.mean[1] == doctest::Approx(-4));
    CHECK(found.variance[0] == doctest::Approx(16).epsilon(1e-6));
    CHECK(found.variance[1] == doctest::Approx(1).epsilon(1e-6));
    CHECK(found.total_variance == doctest::Approx(17).epsilon(1e-6));
    CHECK(found.share(0) == doctest::Approx(16.0 / 17).epsilon(1e-6));
    // The entry of largest magnitude is positive.
    CHECK(found.axes[0] == doctest::Approx(0.6).epsilon(1e-6));
    CHECK(found.axes[1] == doctest::Approx(0.8).epsilon(1e-6));
    CHECK(found.axes[2] == doctest::Approx(0.8).epsilon(1e-6));
    CHECK(found.axes[3] == doctest::Approx(-0.6).epsilon(1e-6));
    CHECK(found.project(&rows[0], 0) == doctest::Approx(-4).epsilon(1e-6));

    std::vector<unsigned char> rgb(12);
    component_colours(found, rows.data(), 4, rgb.data());
    CHECK(rgb[0] == 64);   // one standard deviation below the mean, of two
    CHECK(rgb[1] == 191);  // one above: this axis points the other way
    CHECK(rgb[2] == 128);  // there is no third component
    CHECK(rgb[9] == 191);
}

TEST_CASE("components: eigenvectors are orthonormal and solve the matrix") {
    for (const std::int64_t n : {1, 2, 7, 32, 65}) {
        const auto rows = random_rows(n, n);
        std::vector<double> matrix(static_cast<std::size_t>(n * n));
        for (std::int64_t i = 0; i < n; ++i)
            for (std::int64_t j = 0; j < n; ++j)
                matrix[static_cast<std::size_t>(i * n + j)] =
                    rows[static_cast<std::size_t>(std::min(i, j) * n + std::max(i, j))];
        std::vector<double> values, vectors;
        symmetric_eigen(n, matrix, values, vectors);
        double worst = 0;
        for (std::int64_t k = 0; k < n; ++k) {
            if (k > 0) CHECK(values[static_cast<std::size_t>(k - 1)] >= values[static_cast<std::size_t>(k)]);
            const double* v = &vectors[static_cast<std::size_t>(k * n)];
            for (std::int64_t i = 0; i < n; ++i) {
                double product = -values[static_cast<std::size_t>(k)] * v[i], dot = i == k ? -1 : 0;
                for (std::int64_t j = 0; j < n; ++j) {
                    product += matrix[static_cast<std::size_t>(i * n + j)] * v[j];
                    dot += vectors[static_cast<std::size_t>(i * n + j)] * v[j];
                }
                worst = std::max({worst, std::abs(product), std::abs(dot)});
            }
        }
        CHECK_MESSAGE(worst < 1e-12 * static_cast<double>(n), n);
    }
}

TEST_CASE("components: far from zero, in pieces, with rows that are not finite, with nothing that varies") {
    constexpr std::int64_t count = 200, channels = 5;
    auto rows = random_rows(count, channels);
    for (std::int64_t i = 0; i < count; ++i) rows[static_cast<std::size_t>(i * channels)] *= 10;
    ComponentAnalysis plain(channels), moved(channels), pieces(channels);
    plain.add(rows.data(), count);
    pieces.add(rows.data(), 77);
    const std::vector<float> broken{1, 2, std::numeric_limits<float>::quiet_NaN(), 4, 5};
    pieces.add(broken.data(), 1);
    pieces.add(rows.data() + 77 * channels, count - 77);
    auto far = rows;
    for (auto& value : far) value += 4096;
    moved.add(far.data(), count);
    const auto a = plain.result(), b = pieces.result(), c = moved.result();
    CHECK(pieces.rows() == count);
    CHECK(a.axes == b.axes);
    CHECK(a.variance == b.variance);
    CHECK(a.count() == 3);
    for (std::size_t k = 0; k < 3; ++k) CHECK(c.variance[k] == doctest::Approx(a.variance[k]).epsilon(1e-3));
    CHECK(a.axes[0] > 0.99);  // the channel that was stretched

    ComponentAnalysis nothing(3);
    CHECK(nothing.result().total_variance == 0);
    const std::vector<float> same{1, 2, 3, 1, 2, 3, std::numeric_limits<float>::infinity(), 0, 0};
    nothing.add(same.data(), 3);
    const auto flat = nothing.result();
    CHECK(nothing.rows() == 2);
    CHECK(flat.share(0) == 0);
    unsigned char rgb[9];
    component_colours(flat, same.data(), 3, rgb);
    CHECK((rgb[0] == 128 && rgb[1] == 128 && rgb[2] == 128));
    CHECK((rgb[6] == 0 && rgb[7] == 0 && rgb[8] == 0));
}

}  // namespace cover
