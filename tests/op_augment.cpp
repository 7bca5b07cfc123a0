// Noise, blur, contrast and painted blocks: every row against the float64 reference, and what they do by hand.
#include <cmath>

#include "core/rng.h"
#include "kernels/augment.h"
#include "tests/op_rows.h"
#include "tests/op_shapes.h"

namespace cover::test {
namespace {

const RegisteredTable registered[] = {RegisteredTable("uniform_noise"), RegisteredTable("add_noise"),
                                      RegisteredTable("gaussian_blur"), RegisteredTable("change_contrast"),
                                      RegisteredTable("fill_blocks")};

PhiloxStream stream_of_sample(std::int64_t n) {
    return RandomStream({.seed = 77, .epoch = 3, .sample = static_cast<std::uint32_t>(n)}).blocks();
}

std::vector<NoiseParams> noise_cases(bool offsets) {
    std::vector<NoiseParams> cases;
    for (const std::int64_t elements : {1, 2, 3, 4, 5, 7, 8, 255, 256, 257, 1023, 1025, 8191, 8193, 20001})
        cases.push_back({1 + elements % 3, elements, offsets ? elements % 5 : 0});
    return cases;
}

Tensor noise_draws(std::int64_t n, Device device) {
    std::vector<NoiseDraw> draws;
    for (std::int64_t i = 0; i < n; ++i) draws.push_back({stream_of_sample(i), 0.3f + static_cast<float>(i)});
    return records_on<NoiseDraw>(device, draws);
}

std::string describe_noise(const NoiseParams& p) {
    return text(p.n, " x ", p.elements, " elements from number ", p.first);
}

// Each sample has a radius of its own, the last one the largest.
Tensor blur_weights(const GaussianBlurParams& p, Device device) {
    Tensor weights = Tensor::zeros({p.n * p.taps()}, DType::float64);
    for (std::int64_t n = 0; n < p.n; ++n) {
        const std::int64_t own = p.radius * (n + 1) / p.n;
        double* centre = weights.data<double>() + n * p.taps() + p.radius;
        for (std::int64_t k = -own; k <= own; ++k)
            centre[k] = (1.0 + 0.1 * static_cast<double>(k)) / static_cast<double>(2 * own + 1);
    }
    return weights.to(device);
}

std::vector<GaussianBlurParams> blur_cases() {
    std::vector<GaussianBlurParams> cases;
    std::int64_t i = 0;
    for (const Grid& grid : grids())
        for (const std::int64_t radius : {0, 1, 3, 20})
            cases.push_back({1 + i % 3, grid, 1 + i % 2, radius, i++ % 2 ? Border::reflect : Border::zero});
    cases.push_back({2, {2, 1, 70, 33}, 2, 12, Border::zero});
    cases.push_back({2, {3, 9, 20, 17}, 3, 5, Border::reflect});
    return cases;
}

Tensor block_draws(const FillBlocksParams& p, Device device) {
    std::vector<BlockDraw> draws;
    RandomStream random({.seed = 5, .sample = static_cast<std::uint32_t>(p.n)});
    const std::int64_t sides[3] = {p.grid.d, p.grid.h, p.grid.w};
    for (std::int64_t n = 0; n < p.n; ++n) {
        std::int64_t first = n;  // not always at the beginning of a block of four
        for (std::int64_t b = 0; b < p.blocks; ++b) {
            BlockDraw draw;
            if (p.blocks > 1 && b == p.blocks - 1) {  // left empty
                draws.push_back(draw);
                continue;
            }
            draw = {.first = first, .stream = stream_of_sample(n)};
            std::int64_t pixels = 1;
            for (int axis = 0; axis < 3; ++axis) {
                draw.side[axis] = 1 + random.below(sides[axis]);
                draw.corner[axis] = random.below(sides[axis] - draw.side[axis] + 1);
                pixels *= draw.side[axis];
            }
            first += pixels;
            draws.push_back(draw);
        }
    }
    return records_on<BlockDraw>(device, draws);
}

template <class Params>
std::vector<Tensor> no_inputs(const Params&) {
    return {};
}

}  // namespace

TEST_CASE("uniform_noise: every row, to the bit") {
    check_table(RowTest<NoiseParams, UniformNoiseRun>{
        "uniform_noise", uniform_noise_table(), noise_cases(true), no_inputs<NoiseParams>,
        [](const NoiseParams& p) -> std::vector<OutputSpec> {
            return {{.name = "y", .count = p.count(), .exact = true}};
        },
        [](UniformNoiseRun* run, Outputs out, Inputs, const NoiseParams& p, Stream& stream) {
            const Tensor draws = noise_draws(p.n, stream.device);
            run(out[0], draws.view(), p, stream);
        },
        describe_noise});
}

TEST_CASE("add_noise: every row") {
    check_table(RowTest<NoiseParams, AddNoiseRun>{
        "add_noise", add_noise_table(), noise_cases(false), no_inputs<NoiseParams>,
        [](const NoiseParams& p) -> std::vector<OutputSpec> {
            return {{.name = "x", .count = p.count(), .terms = 2, .scale = 8, .start = Start::random}};
        },
        [](AddNoiseRun* run, Outputs out, Inputs, const NoiseParams& p, Stream& stream) {
            const Tensor draws = noise_draws(p.n, stream.device);
            run(out[0], draws.view(), p, stream);
        },
        describe_noise});
}

TEST_CASE("gaussian_blur: every row") {
    check_table(RowTest<GaussianBlurParams, GaussianBlurRun>{
        "gaussian_blur", gaussian_blur_table(), blur_cases(), no_inputs<GaussianBlurParams>,
        [](const GaussianBlurParams& p) -> std::vector<OutputSpec> {
            return {{.name = "x",
                     .count = p.count(),
                     .terms = 3.0 * static_cast<double>(p.taps()),
                     .start = Start::random}};
        },
        [](GaussianBlurRun* run, Outputs out, Inputs, const GaussianBlurParams& p, Stream& stream) {
            const Tensor weights = blur_weights(p, stream.device);
            run(out[0], weights.view(), p, stream);
        },
        [](const GaussianBlurParams& p) {
            return text(describe(p.n, p.grid), " x ", p.channels, ", radius ", p.radius,
                        p.border == Border::reflect ? ", mirrored" : ", zeros");
        }});
}

TEST_CASE("gaussian_blur: the float32 rows of all devices have the same bits") {
    for (const GaussianBlurParams& p : {GaussianBlurParams{3, {2, 1, 41, 30}, 2, 9, Border::zero},
                                        GaussianBlurParams{2, {3, 7, 12, 9}, 1, 11, Border::reflect}}) {
        const Tensor start = random_tensor({p.count()}, DType::float32, 4);
        Tensor expected = start.clone();
        gaussian_blur(expected.view(), blur_weights(p, Device::cpu).view(), p, cpu_stream());
        for (const Device device : {Device::emulated, Device::cuda}) {
            Stream* stream = device_stream(device);
            if (!stream) continue;
            Tensor x = start.to(device);
            const Tensor weights = blur_weights(p, device);
            gaussian_blur(x.view(), weights.view(), p, *stream);
            const Tensor here = x.to(Device::cpu);
            CHECK_MESSAGE(same_bits(here.view(), expected.view()), name_of(device));
        }
    }
}

TEST_CASE("change_contrast: every row") {
    RowTest<ContrastParams, ChangeContrastRun> test{
        "change_contrast",
        change_contrast_table(),
        {},
        no_inputs<ContrastParams>,
        [](const ContrastParams& p) -> std::vector<OutputSpec> {
            return {{.name = "x", .count = p.count(), .terms = 4, .scale = 2, .start = Start::random}};
        },
        [](ChangeContrastRun* run, Outputs out, Inputs, const ContrastParams& p, Stream& stream) {
            std::vector<ContrastDraw> draws;
            for (std::int64_t i = 0; i < p.n; ++i)
                draws.push_back({1.5f - 0.4f * static_cast<float>(i), 0.25f * static_cast<float>(i) - 0.3f});
            const Tensor records = records_on<ContrastDraw>(stream.device, draws);
            run(out[0], records.view(), p, stream);
        },
        [](const ContrastParams& p) { return text(p.n, " x ", p.elements); }};
    for (const std::int64_t elements : {1, 2, 7, 255, 257, 4095, 4096, 4097, 9001})
        test.cases.push_back({1 + elements % 3, elements});
    check_table(test);
}

TEST_CASE("fill_blocks: every row, to the bit") {
    RowTest<FillBlocksParams, FillBlocksRun> test{
        "fill_blocks",
        fill_blocks_table(),
        {},
        no_inputs<FillBlocksParams>,
        [](const FillBlocksParams& p) -> std::vector<OutputSpec> {
            return {{.name = "x", .count = p.count(), .exact = true, .start = Start::random}};
        },
        [](FillBlocksRun* run, Outputs out, Inputs, const FillBlocksParams& p, Stream& stream) {
            const Tensor draws = block_draws(p, stream.device);
            run(out[0], draws.view(), p, stream);
        },
        [](const FillBlocksParams& p) { return text(describe(p.n, p.grid), " x ", p.channels, ", ", p.blocks); }};
    std::int64_t i = 0;
    for (const Grid& grid : grids())
        for (const std::int64_t blocks : {1, 2, 5}) test.cases.push_back({1 + i++ % 3, grid, 1 + i % 3, blocks});
    check_table(test);
}

TEST_CASE("fill_blocks: the later of two blocks stays, pixels outside stay as they are") {
    const FillBlocksParams p{1, {2, 1, 4, 6}, 2, 2};
    const PhiloxStream random = stream_of_sample(0);
    const std::vector<BlockDraw> draws{{.corner = {0, 0, 0}, .side = {1, 2, 3}, .first = 0, .stream = random},
                                       {.corner = {0, 1, 2}, .side = {1, 2, 2}, .first = 6, .stream = random}};
    Tensor x = Tensor::empty({p.count()});
    x.fill(-1);
    fill_blocks(x.view(), records_on<BlockDraw>(Device::cpu, draws).view(), p, cpu_stream());
    const auto number = [&](std::uint32_t index) { return uniform_of(random.block(index / 4)[index % 4]); };
    for (std::int64_t c = 0; c < 2; ++c) {
        CHECK(element(x.view(), 0 + c) == number(0));                // (0, 0): first of the first block
        CHECK(element(x.view(), (1 * 6 + 1) * 2 + c) == number(4));  // (1, 1): fifth of the first block
        CHECK(element(x.view(), (1 * 6 + 2) * 2 + c) == number(6));  // (1, 2) lies in both
        CHECK(element(x.view(), (2 * 6 + 3) * 2 + c) == number(9));  // (2, 3): last of the second
        CHECK(element(x.view(), (3 * 6 + 5) * 2 + c) == -1);
    }
}

TEST_CASE("add_noise: zero mean and the size asked for; the noise is the stream's") {
    const NoiseParams p{1, 40000};
    Tensor x = Tensor::zeros({p.count()});
    const std::vector<NoiseDraw> draws{{stream_of_sample(9), 0.5f}};
    add_noise(x.view(), records_on<NoiseDraw>(Device::cpu, draws).view(), p, cpu_stream());
    double sum = 0, squares = 0;
    for (std::int64_t i = 0; i < p.count(); ++i) {
        sum += element(x.view(), i);
        squares += element(x.view(), i) * element(x.view(), i);
    }
    CHECK(std::abs(sum / 40000) < 0.01);
    CHECK(std::sqrt(squares / 40000) == doctest::Approx(0.5).epsilon(0.02));
    CHECK(element(x.view(), 6) == doctest::Approx(0.5 * normals(stream_of_sample(9).block(1))[2]));
}

}  // namespace cover::test
