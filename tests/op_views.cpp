// cut_views: every row against the float64 reference, field, mask and facts to the bit.
#include <cmath>

#include "core/rng.h"
#include "kernels/views.h"
#include "tests/op_rows.h"
#include "tests/op_shapes.h"

namespace cover::test {
namespace {

const RegisteredTable registered("cut_views");

// Odd batches have an elastic term.
bool has_elastic(const CutViewsParams& p) { return p.n % 2 == 1; }

std::vector<CutViewsParams> view_cases() {
    std::vector<CutViewsParams> cases;
    std::int64_t i = 0;
    const auto add = [&](const Grid& image, const Grid& patch) {
        for (const WarpConvention convention : {WarpConvention::exact, WarpConvention::reference}) {
            const std::int64_t n = 1 + i % 3;
            cases.push_back({n, n, image, patch, 1 + i / 2 % 3, convention});
            ++i;
        }
    };
    for (const Grid& image : grids()) {
        const auto cut = [&](std::int64_t side) { return std::max<std::int64_t>(1, side - side / 3); };
        add(image, image);
        add(image, {image.spatial_dims, image.spatial_dims == 3 ? cut(image.d) : 1, cut(image.h), cut(image.w)});
    }
    add({2, 1, 40, 70}, {2, 1, 33, 41});
    add({3, 9, 10, 33}, {3, 6, 9, 20});
    return cases;
}

// Moves of some pixels, many of them to the outside; the samples in another order than the draws.
Tensor draws_of(const CutViewsParams& p, Device device) {
    RandomStream random({.seed = 11, .sample = static_cast<std::uint32_t>(p.image.pixels() + p.n)});
    const std::int64_t image[3] = {p.image.d, p.image.h, p.image.w}, patch[3] = {p.patch.d, p.patch.h, p.patch.w};
    std::vector<ViewDraw> draws;
    for (std::int64_t i = 0; i < p.draws; ++i) {
        ViewDraw draw;
        for (int a = 3 - p.image.spatial_dims; a < 3; ++a) {
            for (int b = 3 - p.image.spatial_dims; b < 3; ++b) draw.affine.slope[a][b] = random.uniform(-0.3, 0.3);
            draw.affine.shift[a] = random.uniform(-4, 4);
            draw.corner[a] = random.below(image[a] - patch[a] + 1);
        }
        draw.sample = (i + 1) % p.n;
        if (has_elastic(p)) draw.elastic_scale = 1.7f;
        if (i == 1) {
            draw.factor = 0.6f;
            draw.limit = 2.5f;
        }
        draws.push_back(draw);
    }
    return records_on<ViewDraw>(device, draws);
}

void call(CutViewsRun* run, Outputs out, Inputs in, const CutViewsParams& p, Stream& stream) {
    const Tensor draws = draws_of(p, stream.device);
    run(out[0], out[1], out[2], out[3], out[4], in[0], has_elastic(p) ? in[1] : ConstView(), draws.view(), p, stream);
}

}  // namespace

TEST_CASE("cut_views: every row") {
    check_table(RowTest<CutViewsParams, CutViewsRun>{
        "cut_views", cut_views_table(), view_cases(),
        [](const CutViewsParams& p) -> std::vector<Tensor> {
            return {random_tensor({p.image_count()}, DType::float64, 1),
                    random_tensor({p.elastic_count()}, DType::float64, 2)};
        },
        [](const CutViewsParams& p) -> std::vector<OutputSpec> {
            // A coordinate of size S is rounded to S * eps: so is each weight.
            const double blur = 4 + static_cast<double>(std::max({p.image.d, p.image.h, p.image.w}));
            return {{.name = "moving", .count = p.patch_count(), .exact = true},
                    {.name = "fixed", .count = p.patch_count(), .terms = 8 * blur * blur},
                    {.name = "field", .count = p.field_count(), .exact = true},
                    {.name = "mask", .count = p.mask_count(), .exact = true},
                    {.name = "facts", .count = 2 * p.draws, .exact = true, .type = float64_type}};
        },
        call,
        [](const CutViewsParams& p) {
            return text(describe(p.n, p.image), " x ", p.channels, ", patch ", describe(1, p.patch),
                        p.convention == WarpConvention::exact ? ", exact" : ", reference",
                        has_elastic(p) ? ", elastic" : "");
        }});
}

TEST_CASE("cut_views: the facts are those of the mask and the field; samples that are not drawn stay as they are") {
    for (const auto& row : cut_views_table()) {
        const CutViewsParams p{4, 2, {2, 1, 12, 15}, {2, 1, 9, 10}, 1, WarpConvention::exact};
        if (!runs_on_host_memory(row, p)) continue;
        const Tensor images = random_tensor({p.image_count()}, row.dtype, 1);
        Tensor moving = Tensor::empty({p.patch_count()}, row.dtype), fixed = moving.clone();
        Tensor field = Tensor::empty({p.field_count()}, row.dtype), mask = Tensor::empty({p.mask_count()}, row.dtype);
        Tensor facts = Tensor::empty({4}, DType::float64);
        for (Tensor* t : {&moving, &fixed, &field, &mask}) t->fill(99);
        const Tensor draws = draws_of(p, Device::cpu);
        row.run(moving.view(), fixed.view(), field.view(), mask.view(), facts.view(), images.view(), {}, draws.view(),
                p, *device_stream(row.device));
        for (std::int64_t i = 0; i < p.draws; ++i) {
            const std::int64_t sample = i + 1;
            double valid = 0, largest = 0;
            for (std::int64_t k = 0; k < 90; ++k) valid += element(mask.view(), sample * 90 + k);
            for (std::int64_t k = 0; k < 180; ++k)
                largest = std::max(largest, std::abs(element(field.view(), sample * 180 + k)));
            CHECK_MESSAGE(facts.data<double>()[2 * i] == valid, row.name);
            CHECK_MESSAGE(facts.data<double>()[2 * i + 1] == largest, row.name);
            CHECK(valid > 0);
        }
        for (const std::int64_t sample : {0, 3})
            for (const Tensor* t : {&moving, &fixed, &field, &mask})
                for (std::int64_t k = 0; k < t->count() / 4; ++k)
                    REQUIRE(element(t->view(), sample * t->count() / 4 + k) == 99);
    }
}

TEST_CASE("cut_views: a patch larger than the image, and more draws than samples, are refused") {
    CutViewsParams p{1, 1, {2, 1, 8, 8}, {2, 1, 8, 9}, 1, WarpConvention::exact};
    CHECK_THROWS_AS(validate(p), Error);
    p.patch.w = 8;
    CHECK_NOTHROW(validate(p));
    p.draws = 2;
    CHECK_THROWS_AS(validate(p), Error);
}

}  // namespace cover::test
