// The two views, their displacement field and mask. Spec sections 1, 6 and 10.
#include "cover/views.h"

#include <cmath>
#include <cstring>

#include "cover/appearance.h"
#include "data/h5.h"
#include "tests/support.h"

namespace cover {
namespace {

TrainConfig views_config(int dims, std::int64_t side, std::int64_t patch) {
    TrainConfig config;
    config.dims = dims;
    config.in_channels = 1;
    const std::int64_t depth = dims == 3 ? side : 1, patch_depth = dims == 3 ? patch : 1;
    config.patch = {patch_depth, patch, patch};
    complete_config(config, {dims, 1, {depth, side, side}, 8});
    return config;
}

Tensor random_images(int dims, std::int64_t batch, std::int64_t side, std::int64_t channels = 1) {
    return test::random_tensor({batch, dims == 3 ? side : 1, side, side, channels}, DType::float32, 3, 0, 1);
}

std::vector<SampleKey> keys(std::int64_t count, std::uint32_t epoch = 0) {
    std::vector<SampleKey> list;
    for (std::int64_t i = 0; i < count; ++i) list.push_back({epoch, static_cast<std::uint32_t>(10 + i)});
    return list;
}

bool same(const Tensor& a, const Tensor& b) {
    return a.shape() == b.shape() && std::memcmp(a.view().data, b.view().data, a.bytes()) == 0;
}

void remove_appearance(TrainConfig& config) {
    config.noise_sd_max = config.blur_sigma_max = config.brightness_sd = 0;
    config.contrast_min = config.contrast_max = 1;
    config.inpaint_probability = 0;
}

}  // namespace

TEST_CASE("views: the affine field equals the authors' to 2e-6") {
    const H5File file = H5File::open(COVER_SOURCE_DIR "/tests/golden/affine_flow.h5");
    int cases = 0;
    for (const auto& [path, attributes] : file.groups()) {
        if (!file.find_attribute(path, "shape")) continue;
        ++cases;
        const auto shape = file.numbers(path, "shape");
        const int nd = static_cast<int>(shape.size());
        std::array<std::int64_t, 3> sides{1, 1, 1};
        for (int a = 0; a < nd; ++a)
            sides[static_cast<std::size_t>(3 - nd + a)] = static_cast<std::int64_t>(shape[static_cast<std::size_t>(a)]);
        AffineDraw draw;
        const char* axes[3] = {"x", "y", "z"};
        for (int a = 0; a < nd; ++a) {
            const auto i = static_cast<std::size_t>(a);
            draw.angle[i] = file.number(path, std::string("angle_") + axes[a]);
            draw.scale[i] = file.number(path, std::string("scale_") + axes[a]);
            draw.translation[i] = file.number(path, std::string("trans_") + axes[a]);
        }
        draw.shear.xy = file.number(path, "shear_xy");
        draw.shear.yx = file.number(path, "shear_yx");
        if (nd == 3) {
            draw.shear.xz = file.number(path, "shear_xz");
            draw.shear.yz = file.number(path, "shear_yz");
            draw.shear.zx = file.number(path, "shear_zx");
            draw.shear.zy = file.number(path, "shear_zy");
        }
        const AffineDisplacement map = affine_map(draw, nd, sides);
        const std::vector<double> expected = file.read_doubles(path + "/flow");  // (nd, spatial...)
        const std::int64_t pixels = sides[0] * sides[1] * sides[2];
        REQUIRE(static_cast<std::int64_t>(expected.size()) == nd * pixels);
        double error = 0, norm = 0;
        for (int a = 0; a < nd; ++a)
            for (std::int64_t p = 0; p < pixels; ++p) {
                const float got = affine_displacement(map, 3 - nd + a, static_cast<double>(p / (sides[1] * sides[2])),
                                                      static_cast<double>(p / sides[2] % sides[1]),
                                                      static_cast<double>(p % sides[2]));
                const double e = expected[static_cast<std::size_t>(a * pixels + p)];
                error += (got - e) * (got - e);
                norm += e * e;
            }
        CHECK_MESSAGE(std::sqrt(error / norm) <= 2e-6, path, ": ", std::sqrt(error / norm));
    }
    CHECK(cases == 12);
}

TEST_CASE("views: a zero draw moves by half a pixel on an even side and by nothing on an odd one") {
    const AffineDisplacement even = affine_map({}, 2, {1, 8, 8}), odd = affine_map({}, 2, {1, 9, 9});
    CHECK(affine_displacement(even, 1, 0, 3, 5) == 0.5f);
    CHECK(affine_displacement(odd, 2, 0, 3, 5) == 0.0f);
}

TEST_CASE("views: the mask follows the reference's rule, coordinate zero outside and the last one inside") {
    CHECK_FALSE(lands_inside(3, -3.0f, 8));
    CHECK(lands_inside(3, -2.999f, 8));
    CHECK(lands_inside(3, 4.0f, 8));
    CHECK_FALSE(lands_inside(3, 4.001f, 8));
}

TEST_CASE("views: same bits for any number of threads, other bits for another epoch, sample or seed") {
    for (const int dims : {2, 3}) {
        TrainConfig config = views_config(dims, dims == 2 ? 96 : 36, dims == 2 ? 64 : 32);
        config.elastic = dims == 2;
        const Tensor images = random_images(dims, 3, dims == 2 ? 96 : 36);
        const Views one = make_views(images, keys(3), config, test::cpu_stream(1));
        for (const int threads : {2, 3}) {
            const Views more = make_views(images, keys(3), config, test::cpu_stream(threads));
            CHECK(same(one.images, more.images));
            CHECK(same(one.field, more.field));
            CHECK(same(one.mask, more.mask));
        }
        const Views other = make_views(images, keys(3, 1), config, test::cpu_stream(1));
        CHECK_FALSE(same(one.field, other.field));
        config.seed = 1;
        const Views seeded = make_views(images, keys(3), config, test::cpu_stream(1));
        CHECK_FALSE(same(one.field, seeded.field));
        CHECK_FALSE(same(one.images, seeded.images));
    }
}

TEST_CASE("views: a sample's views do not depend on its neighbours in the batch") {
    const TrainConfig config = views_config(2, 96, 64);
    const Tensor images = random_images(2, 3, 96);
    const Views three = make_views(images, keys(3), config, test::cpu_stream());
    const Views alone = make_views(images.slice(0, {1, 1, 96, 96, 1}), keys(1), config, test::cpu_stream());
    CHECK(same(three.field.slice(0, alone.field.shape()), alone.field));
    CHECK(same(three.images.slice(0, {1, 1, 64, 64, 1}), alone.images.slice(0, {1, 1, 64, 64, 1})));
}

TEST_CASE("views: x_b is x resampled at i + psi, and the mask says where that lies inside the patch") {
    for (const int dims : {2, 3}) {
        const std::int64_t side = dims == 2 ? 48 : 24, patch = dims == 2 ? 32 : 16;
        TrainConfig config = views_config(dims, side, patch);
        config.degree = 0.4;
        remove_appearance(config);
        // A linear image: multilinear interpolation is exact wherever it reads inside.
        Tensor images = Tensor::empty({1, dims == 3 ? side : 1, side, side, 1});
        const auto value = [](double d, double h, double w) { return 0.01 * d + 0.02 * h - 0.015 * w; };
        std::int64_t i = 0;
        for (std::int64_t d = 0; d < (dims == 3 ? side : 1); ++d)
            for (std::int64_t h = 0; h < side; ++h)
                for (std::int64_t w = 0; w < side; ++w)
                    images.data<float>()[i++] = static_cast<float>(
                        value(static_cast<double>(d), static_cast<double>(h), static_cast<double>(w)));
        const Views v = make_views(images, keys(1), config, test::cpu_stream());
        const std::int64_t depth = dims == 3 ? patch : 1, pixels = depth * patch * patch;
        const float* moving = std::as_const(v.images).data<float>();
        const float* fixed = moving + pixels;
        const float* psi = v.field.data<float>();
        std::int64_t valid = 0, checked = 0;
        for (std::int64_t p = 0; p < pixels; ++p) {
            const std::int64_t at[3] = {p / (patch * patch), p / patch % patch, p % patch};
            bool inside = true;
            double target[3] = {0, 0, 0};
            for (int a = 3 - dims; a < 3; ++a) {
                target[a] = static_cast<double>(at[a]) + psi[p * dims + a - 3 + dims];
                inside = inside && target[a] > 0 && target[a] <= static_cast<double>(patch - 1);
            }
            CHECK(v.mask.data<float>()[p] == (inside ? 1.0f : 0.0f));
            valid += inside;
            if (!inside) continue;
            // The moving view is the plain crop, so its own value at the target is the linear function there.
            const double difference =
                value(target[0], target[1], target[2]) -
                value(static_cast<double>(at[0]), static_cast<double>(at[1]), static_cast<double>(at[2]));
            CHECK(fixed[p] == doctest::Approx(moving[p] + difference).epsilon(1e-4));
            ++checked;
        }
        CHECK(checked > pixels / 4);
        CHECK(v.valid == doctest::Approx(static_cast<double>(valid) / static_cast<double>(pixels)));
    }
}

TEST_CASE("views: a patch as large as the image and three channels work") {
    TrainConfig config = views_config(2, 32, 32);
    config.in_channels = 3;
    const Views v = make_views(random_images(2, 2, 32, 3), keys(2), config, test::cpu_stream());
    CHECK(v.images.shape() == Shape{4, 1, 32, 32, 3});
    for (std::int64_t i = 0; i < v.images.count(); ++i)
        REQUIRE(std::isfinite(std::as_const(v.images).data<float>()[i]));
}

TEST_CASE("views: an empty mask is drawn again, and an always-empty one is reported, not used") {
    TrainConfig config = views_config(2, 48, 32);
    config.rotation = config.shear = config.scale = 0;
    config.degree = 1;
    config.translation = 1;  // in +-48 pixels: more than half of the draws leave a patch of 32
    const Views v = make_views(random_images(2, 8, 48), keys(8), config, test::cpu_stream());
    CHECK(v.redrawn > 0);
    CHECK_FALSE(v.empty);
    for (std::int64_t b = 0; b < 8; ++b) {
        double valid = 0;
        for (std::int64_t p = 0; p < 32 * 32; ++p) valid += v.mask.data<float>()[b * 32 * 32 + p];
        CHECK(valid > 0);
    }
    config.translation = 1e6;
    CHECK(make_views(random_images(2, 2, 48), keys(2), config, test::cpu_stream()).empty);
}

TEST_CASE("views: --limit-reach holds every component on the crop within the pyramid's reach") {
    TrainConfig config = views_config(2, 192, 128);
    config.levels = 5;
    config.radius = 1;  // reach 31
    const float reach = static_cast<float>(pyramid_reach(config));
    CHECK(reach == 31.0f);
    const auto largest = [&](LimitReach limit) {
        config.limit_reach = limit;
        const Views v = make_views(random_images(2, 4, 192), keys(4), config, test::cpu_stream());
        float most = 0;
        for (std::int64_t i = 0; i < v.field.count(); ++i)
            most = std::max(most, std::abs(std::as_const(v.field).data<float>()[i]));
        return most;
    };
    CHECK(largest(LimitReach::off) > reach);
    CHECK(largest(LimitReach::scale) <= reach);
    config.degree = 0.5;
    CHECK(largest(LimitReach::redraw) <= reach);
}

TEST_CASE("views: --batch-shared-augmentation draws one corner for the batch, the default one for each sample") {
    TrainConfig config = views_config(2, 96, 64);
    remove_appearance(config);
    // Each pixel names itself, so a crop shows its corner.
    Tensor images = Tensor::empty({4, 1, 96, 96, 1});
    for (std::int64_t i = 0; i < images.count(); ++i) images.data<float>()[i] = static_cast<float>(i % (96 * 96));
    const auto corners = [&] {
        const Views v = make_views(images, keys(4), config, test::cpu_stream());
        std::vector<float> list;
        for (std::int64_t b = 0; b < 4; ++b) list.push_back(std::as_const(v.images).data<float>()[b * 64 * 64]);
        return list;
    };
    const auto own = corners();
    CHECK((own[0] != own[1] || own[1] != own[2] || own[2] != own[3]));
    config.batch_shared_augmentation = true;
    const auto shared = corners();
    CHECK((shared[0] == shared[1] && shared[1] == shared[2] && shared[2] == shared[3]));
}

TEST_CASE("views: the unreachable share is the spec's, section 10") {
    const auto statistics = [](std::int64_t patch, double degree) {
        TrainConfig config = views_config(2, patch * 3 / 2, patch);
        config.degree = degree;
        return reach_statistics(config, {1, patch * 3 / 2, patch * 3 / 2}, 4000);
    };
    const ReachStatistics paper = statistics(384, 1.5);
    CHECK(paper.beyond == doctest::Approx(0.82).epsilon(0.02));
    CHECK(paper.zero_field_loss == doctest::Approx(172).epsilon(0.03));
    CHECK(paper.lower_bound == doctest::Approx(75).epsilon(0.05));
    const ReachStatistics small = statistics(128, 1.5);
    CHECK(small.beyond == doctest::Approx(0.14).epsilon(0.08));
    CHECK(small.zero_field_loss == doctest::Approx(57).epsilon(0.03));
    CHECK(small.lower_bound == doctest::Approx(2.0).epsilon(0.15));
    CHECK(statistics(64, 1.5).beyond == 0);
}

TEST_CASE("views: the blur is a Gaussian: it keeps a constant, spreads a point by sigma, and is the identity at 0.05") {
    const auto blurred = [](Tensor image, double sigma, Border border) {
        blur(image, {sigma}, 2, border, test::cpu_stream());
        return image;
    };
    Tensor image = Tensor::zeros({1, 1, 65, 65, 1});
    image.data<float>()[32 * 65 + 32] = 1;
    image = blurred(image, 3.0, Border::zero);
    double sum = 0, variance_h = 0, variance_w = 0;
    for (int h = 0; h < 65; ++h)
        for (int w = 0; w < 65; ++w) {
            const double value = image.data<float>()[h * 65 + w];
            sum += value;
            variance_h += value * (h - 32) * (h - 32);
            variance_w += value * (w - 32) * (w - 32);
        }
    CHECK(sum == doctest::Approx(1).epsilon(1e-5));
    CHECK(std::sqrt(variance_h) == doctest::Approx(3).epsilon(0.01));
    CHECK(std::sqrt(variance_w) == doctest::Approx(3).epsilon(0.01));
    // Zeros lie outside: a line blurred across its one pixel loses what falls beside it.
    Tensor line = Tensor::empty({1, 1, 1, 9, 1});
    line.fill(1);
    CHECK(blurred(line, 3.0, Border::zero).data<float>()[4] < 0.2f);
    Tensor constant = Tensor::empty({1, 1, 7, 5, 2});
    constant.fill(0.25);
    constant = blurred(constant, 2.0, Border::reflect);
    for (std::int64_t i = 0; i < constant.count(); ++i)
        CHECK(std::as_const(constant).data<float>()[i] == doctest::Approx(0.25f));
    Tensor point = Tensor::zeros({1, 1, 1, 9, 1});
    point.data<float>()[4] = 1;
    CHECK(blurred(point, 0.05, Border::reflect).data<float>()[4] == 1.0f);
}

TEST_CASE("views: the appearance of x_a changes as configured and never touches x_b") {
    TrainConfig config = views_config(2, 96, 64);
    const Tensor images = random_images(2, 2, 96);
    TrainConfig plain = config;
    remove_appearance(plain);
    const Views changed = make_views(images, keys(2), config, test::cpu_stream());
    const Views crop = make_views(images, keys(2), plain, test::cpu_stream());
    const Views off = make_views(images, keys(2), config, test::cpu_stream(), {.appearance = false});
    const Shape half{2, 1, 64, 64, 1};
    CHECK_FALSE(same(changed.images.slice(0, half), crop.images.slice(0, half)));
    CHECK(same(changed.images.slice(half.count(), half), crop.images.slice(half.count(), half)));
    // A contrast of one still subtracts and adds the mean: equal to rounding.
    const std::string problem = test::difference(off.images.const_view(), crop.images.const_view(), 1e-6, 1e-6);
    CHECK_MESSAGE(problem.empty(), problem);

    // Contrast alone keeps the mean of the patch and multiplies its deviations.
    plain.contrast_min = plain.contrast_max = 1.5;
    const Views contrast = make_views(images, keys(2), plain, test::cpu_stream());
    const float* before = std::as_const(crop.images).data<float>();
    const float* after = std::as_const(contrast.images).data<float>();
    double mean = 0;
    for (int i = 0; i < 64 * 64; ++i) mean += before[i];
    mean /= 64 * 64;
    for (int i = 0; i < 64 * 64; i += 37)
        CHECK(after[i] == doctest::Approx((before[i] - mean) * 1.5 + mean).epsilon(1e-4));

    // In-painting alone: blocks of 6 or 7 pixels a side (floor(3s/30) to floor(4s/30) - 1 of 64), inside the border
    // of 3.
    plain.contrast_min = plain.contrast_max = 1;
    plain.inpaint_probability = 1;
    plain.inpaint_max_blocks = 1;
    const Views painted = make_views(images, keys(2), plain, test::cpu_stream());
    int low_h = 64, high_h = -1, low_w = 64, high_w = -1, different = 0;
    for (int h = 0; h < 64; ++h)
        for (int w = 0; w < 64; ++w)
            if (std::as_const(painted.images).data<float>()[h * 64 + w] != before[h * 64 + w]) {
                low_h = std::min(low_h, h), high_h = std::max(high_h, h);
                low_w = std::min(low_w, w), high_w = std::max(high_w, w);
                ++different;
            }
    CHECK(different >= 35);
    CHECK((high_h - low_h + 1 >= 6 && high_h - low_h + 1 <= 7));
    CHECK((high_w - low_w + 1 >= 6 && high_w - low_w + 1 <= 7));
    CHECK((low_h >= 3 && high_h < 61 && low_w >= 3 && high_w < 61));
}

}  // namespace cover
