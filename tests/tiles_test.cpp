// Images cut into overlapping tiles and put together again.
#include "cover/tiles.h"

#include <cmath>
#include <utility>

#include "tests/run_program.h"

namespace cover {
namespace {

Tensor image_of(std::int64_t d, std::int64_t h, std::int64_t w, std::int64_t c) {
    return test::random_tensor({1, d, h, w, c}, DType::float32, 3);
}

// The sum over a window of +-reach pixels along the two last axes, zero outside: what a network that sees that far does
// with a tile's edges.
Tensor window_sum(const Tensor& x, std::int64_t reach) {
    Tensor now = x;
    for (const int axis : {2, 3}) {
        const std::int64_t side = x.side(axis), step = axis == 3 ? x.side(4) : x.side(3) * x.side(4);
        Tensor next = Tensor::zeros(x.shape());
        for (std::int64_t i = 0; i < x.count(); ++i) {
            const std::int64_t at = i / step % side;
            for (std::int64_t o = std::max(-reach, -at); o <= std::min(reach, side - 1 - at); ++o)
                next.data<float>()[i] += std::as_const(now).data<float>()[i + o * step];
        }
        now = next;
    }
    return now;
}

}  // namespace

TEST_CASE("tiles: they start at multiples of 16, cover the axis and weigh 1 in all") {
    for (const std::int64_t length : {1, 15, 16, 17, 47, 64, 65, 100, 127, 128, 129, 500})
        for (const std::int64_t tile : {0, 16, 32, 48, 64, 112}) {
            const AxisTiles axis = cut_axis(length, tile);
            CAPTURE(length);
            CAPTURE(tile);
            CHECK(axis.padded % 16 == 0);
            CHECK(axis.padded >= length);
            CHECK(axis.padded < length + 16);
            CHECK(axis.side % 16 == 0);
            CHECK(axis.side <= axis.padded);
            if (tile == 0) CHECK(axis.side == axis.padded);
            if (tile >= 32) CHECK(axis.side == std::min(tile, axis.padded));
            CHECK(axis.starts.front() == 0);
            CHECK(axis.starts.back() + axis.side == axis.padded);
            std::vector<double> sum(static_cast<std::size_t>(axis.padded), 0.0);
            for (std::size_t t = 0; t < axis.starts.size(); ++t) {
                CHECK(axis.starts[t] % 16 == 0);
                REQUIRE(static_cast<std::int64_t>(axis.weights[t].size()) == axis.side);
                for (std::size_t i = 0; i < axis.weights[t].size(); ++i) {
                    CHECK(axis.weights[t][i] >= 0);
                    sum[static_cast<std::size_t>(axis.starts[t]) + i] += axis.weights[t][i];
                }
                // A cut edge has no weight, the image's own has all of it.
                if (axis.starts[t] > 0) CHECK(axis.weights[t].front() == 0);
                if (axis.starts[t] + axis.side < axis.padded) CHECK(axis.weights[t].back() == 0);
            }
            for (const double s : sum) CHECK(s == doctest::Approx(1).epsilon(1e-12));
            CHECK(axis.weights.front().front() == 1);
            CHECK(axis.weights.back().back() == 1);
        }
}

TEST_CASE("tiles: an image that fits is one call on the image padded by reflection, and cut back") {
    const Tensor image = image_of(1, 20, 37, 2);
    int calls = 0;
    const Tensor same = run_tiled(image, 2, {0, 64, 64}, [&](const Tensor& tile) {
        ++calls;
        CHECK(tile.shape() == Shape{1, 1, 32, 48, 2});
        // Behind the last row, 19, comes row 18 again.
        for (const auto& [row, column, from_row, from_column] :
             {std::array{20, 0, 18, 0}, std::array{31, 5, 7, 5}, std::array{3, 37, 3, 35}, std::array{25, 47, 13, 25}})
            CHECK(tile.data<float>()[(row * 48 + column) * 2 + 1] ==
                  image.data<float>()[(from_row * 37 + from_column) * 2 + 1]);
        return tile;
    });
    CHECK(calls == 1);
    CHECK(same.shape() == image.shape());
    for (std::int64_t i = 0; i < image.count(); ++i)
        CHECK(std::as_const(same).data<float>()[i] == image.data<float>()[i]);
    // Sides far smaller than what is padded are reflected to and fro.
    const Tensor tiny = image_of(1, 1, 3, 1);
    run_tiled(tiny, 2, {}, [&](const Tensor& tile) {
        const int expected[] = {0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2, 1};
        for (int h = 0; h < 16; ++h)
            for (int w = 0; w < 16; ++w) CHECK(tile.data<float>()[h * 16 + w] == tiny.data<float>()[expected[w]]);
        return tile;
    });
}

TEST_CASE("tiles: what reaches no further than a quarter of the overlap comes out as in the whole image") {
    const Tensor image = image_of(1, 90, 150, 3);
    const auto local = [](std::int64_t reach) {
        return [reach](const Tensor& tile) { return window_sum(tile, reach); };
    };
    for (const TileSides tile : {TileSides{0, 64, 64}, TileSides{0, 32, 96}, TileSides{0, 48, 48}}) {
        // Overlaps of 32, 16 and 32 pixels; 8 for a tile of 32 is the least: 16 / 4 = 4.
        const std::int64_t reach = tile[1] == 32 ? 4 : 8;
        const Tensor whole = run_tiled(image, 2, {}, local(reach)), tiled = run_tiled(image, 2, tile, local(reach));
        CHECK(test::difference(tiled.const_view(), whole.const_view(), 2e-4, 1e-6).empty());
        // One pixel further, and the cut edges show: the test sees them.
        const Tensor further = run_tiled(image, 2, tile, local(reach + 3));
        CHECK(
            !test::difference(further.const_view(), run_tiled(image, 2, {}, local(reach + 3)).const_view(), 2e-4, 1e-6)
                 .empty());
    }
    // A volume: pointwise, so that only places and weights are looked at.
    const Tensor volume = image_of(40, 33, 70, 2);
    std::int64_t calls = 0;
    const Tensor twice = run_tiled(volume, 3, {32, 32, 32}, [&](const Tensor& tile) {
        ++calls;
        Tensor y = tile.clone();
        for (std::int64_t i = 0; i < y.count(); ++i) y.data<float>()[i] *= 2;
        return y;
    });
    CHECK(calls == count_tiles({40, 33, 70}, 3, {32, 32, 32}));
    CHECK(calls == 2 * 2 * 4);
    Tensor expected = volume.clone();
    for (std::int64_t i = 0; i < expected.count(); ++i) expected.data<float>()[i] *= 2;
    CHECK(test::difference(twice.const_view(), std::as_const(expected).const_view(), 1e-6, 1e-6).empty());
}

// The network's group norms see a whole tile, so that tiles differ from the whole image everywhere. How much depends on
// the weights and the image; here: drawn weights, an image of one texture. The blend keeps neighbours close: the step
// over a seam is no larger than elsewhere in the image.
TEST_CASE("tiles: features of a network in tiles stay close to those of the whole image") {
    const Model model = test::small_model(test::small_network(2));
    const Tensor image = image_of(1, 128, 128, 1);
    const auto features = [&](const Tensor& tile) {
        Graph graph(test::cpu_stream(), 2, Graph::Retention::nothing);
        return graph.value(model.features(graph, graph.constant(tile)).back());
    };
    const Tensor whole = run_tiled(image, 2, {}, features), tiled = run_tiled(image, 2, {0, 64, 64}, features);
    const std::string found = test::difference(tiled.const_view(), whole.const_view(), 1e9, 0.3);
    CHECK_MESSAGE(found.empty(), found);
    CHECK(!test::difference(tiled.const_view(), whole.const_view(), 1e9, 1e-5).empty());
    double seam = 0, elsewhere = 0;
    const std::int64_t c = whole.side(4);
    for (std::int64_t h = 0; h < 128; ++h)
        for (std::int64_t w = 1; w < 128; ++w)
            for (std::int64_t k = 0; k < c; ++k) {
                const auto at = [&](const Tensor& t, std::int64_t x) { return t.data<float>()[(h * 128 + x) * c + k]; };
                const double step = at(tiled, w) - at(whole, w) - at(tiled, w - 1) + at(whole, w - 1);
                // Tiles end at 64 and 96, start at 32 and 64.
                (w % 32 == 0 ? seam : elsewhere) += step * step / (w % 32 == 0 ? 3 : 124);
            }
    CHECK(std::sqrt(seam) < 1.5 * std::sqrt(elsewhere));
}

}  // namespace cover
