// The CPU convolutions against the reference: every row that this machine can run, and the sixteen-lane inner loops of
// the AVX-512 row compiled for any machine. Shapes cover both ways to cut the work, partial blocks and tiles, sides
// below the kernel, and the same bits for every number of threads.
#include <cstring>

#include "kernels/conv.h"
#include "kernels/cpu/conv_driver.h"
#include "kernels/cpu/conv_input.h"
#include "tests/support.h"

namespace cover::test {

extern const cpu::ConvKernels conv_kernels_lanes16;

namespace {

struct Result {
    Guarded y, dx, dweight, dbias;
    explicit Result(const ConvParams& p)
        : y(p.y_count(), DType::float32),
          dx(p.x_count(), DType::float32),
          dweight(p.weight_count(), DType::float32),
          dbias(p.c_out, DType::float32) {
        dweight.fill(0.25);
        dbias.fill(-0.5);
    }
    bool intact() const { return y.intact() && dx.intact() && dweight.intact() && dbias.intact(); }
};

struct Inputs {
    Tensor x, weight, bias, dy;
    explicit Inputs(const ConvParams& p)
        : x(random_tensor({p.x_count()}, DType::float32, 1)),
          weight(random_tensor({p.weight_count()}, DType::float32, 2)),
          bias(random_tensor({p.c_out}, DType::float32, 3)),
          dy(random_tensor({p.y_count()}, DType::float32, 4)) {}
};

void run_row(const char* row, const Inputs& in, Result& out, const ConvParams& p, int threads) {
    KernelSelection selection;
    for (const char* op : {"conv", "conv_backward_data", "conv_backward_weight"}) selection.rows[op] = row;
    Stream stream = cpu_stream(threads);
    stream.selection = &selection;
    conv(out.y.view(), in.x.view(), in.weight.view(), in.bias.view(), p, stream);
    conv_backward_data(out.dx.view(), in.dy.view(), in.weight.view(), p, stream);
    conv_backward_weight(out.dweight.view(), out.dbias.view(), in.dy.view(), in.x.view(), p, stream);
}

void run_kernels(const cpu::ConvKernels& kernels, const Inputs& in, Result& out, const ConvParams& p, int threads) {
    Stream& stream = cpu_stream(threads);
    const cpu::StoredInput x(in.x.data<float>(), p.c_in), dy(in.dy.data<float>(), p.c_out);
    cpu::conv_forward(kernels, {out.y.view().as<float>(), p.c_out}, x, in.weight.data<float>(), in.bias.data<float>(),
                      false, p, stream);
    cpu::conv_forward(kernels, {out.dx.view().as<float>(), p.c_in}, dy, in.weight.data<float>(), nullptr, true, p,
                      stream);
    cpu::conv_weight_gradient(kernels, out.dweight.view().as<float>(), out.dbias.view().as<float>(),
                              in.dy.data<float>(), x, p, stream);
}

void check_close(const Result& got, const Result& expected, const ConvParams& p) {
    const double pixels = static_cast<double>(p.n * p.grid.pixels());
    const auto bound = [](double terms) { return 4 * tolerance(DType::float32, terms, 2); };
    CHECK(difference(got.y.view(), expected.y.view(), bound(p.taps() * static_cast<double>(p.c_in)), 1e-5) == "");
    CHECK(difference(got.dx.view(), expected.dx.view(), bound(p.taps() * static_cast<double>(p.c_out)), 1e-5) == "");
    CHECK(difference(got.dweight.view(), expected.dweight.view(), bound(pixels), 1e-5) == "");
    CHECK(difference(got.dbias.view(), expected.dbias.view(), bound(pixels), 1e-5) == "");
    CHECK(got.intact());
}

void check_same_bits(const Result& a, const Result& b) {
    const auto same = [](const Guarded& u, const Guarded& v) {
        return std::memcmp(u.view().data, v.view().data, static_cast<std::size_t>(u.view().count) * 4) == 0;
    };
    CHECK(same(a.y, b.y));
    CHECK(same(a.dx, b.dx));
    CHECK(same(a.dweight, b.dweight));
    CHECK(same(a.dbias, b.dbias));
}

const ConvParams shapes[] = {
    // n, grid (dims, d, h, w), c_in, c_out, kernel
    {1, {2, 1, 1, 1}, 1, 1, 3},     {2, {2, 1, 5, 7}, 1, 32, 3},     {1, {2, 1, 9, 2}, 3, 8, 3},
    {3, {2, 1, 40, 67}, 32, 32, 3}, {1, {2, 1, 64, 64}, 17, 9, 3},   {2, {2, 1, 13, 11}, 40, 24, 3},
    {1, {2, 1, 6, 5}, 33, 65, 3},   {5, {2, 1, 4, 4}, 72, 136, 3},   {2, {2, 1, 3, 8}, 136, 264, 3},
    {6, {2, 1, 3, 3}, 257, 130, 3}, {2, {2, 1, 7, 6}, 64, 8, 1},     {3, {2, 1, 5, 5}, 300, 270, 1},
    {1, {2, 1, 70, 65}, 8, 3, 1},   {1, {3, 1, 1, 1}, 2, 3, 3},      {2, {3, 3, 3, 3}, 48, 160, 3},
    {1, {3, 9, 17, 16}, 1, 32, 3},  {1, {3, 14, 20, 18}, 32, 40, 3}, {3, {3, 2, 5, 4}, 20, 150, 3},
    {2, {3, 4, 3, 5}, 40, 12, 1},
};

void check_row(const char* row) {
    for (const ConvParams& p : shapes) {
        CAPTURE(Shape({p.n, p.grid.d, p.grid.h, p.grid.w, p.c_in, p.c_out}).to_string());
        const Inputs in(p);
        Result expected(p), one(p), three(p);
        run_row("ref", in, expected, p, 2);
        run_row(row, in, one, p, 1);
        run_row(row, in, three, p, 3);
        check_close(one, expected, p);
        check_same_bits(one, three);
    }
}

}  // namespace

TEST_CASE("conv: cpu_avx2 agrees with the reference and does not depend on threads") {
    if (!machine_facts().avx2) return skip("this machine has no AVX2");
    check_row("cpu_avx2");
}

TEST_CASE("conv: cpu_avx512 agrees with the reference and does not depend on threads") {
    if (!machine_facts().avx512) return skip("this machine has no AVX-512");
    check_row("cpu_avx512");
}

TEST_CASE("conv: the sixteen-lane inner loops agree with the reference on any machine") {
    for (const ConvParams& p : shapes) {
        CAPTURE(Shape({p.n, p.grid.d, p.grid.h, p.grid.w, p.c_in, p.c_out}).to_string());
        const Inputs in(p);
        Result expected(p), one(p), three(p);
        run_row("ref", in, expected, p, 2);
        run_kernels(conv_kernels_lanes16, in, one, p, 1);
        run_kernels(conv_kernels_lanes16, in, three, p, 3);
        check_close(one, expected, p);
        check_same_bits(one, three);
    }
}

TEST_CASE("conv: the weight gradient of a batch is the binary tree over its samples") {
    if (!machine_facts().avx2) return skip("this machine has no AVX2");
    const ConvParams batch{4, {2, 1, 6, 5}, 20, 24, 3}, single{1, {2, 1, 6, 5}, 20, 24, 3};
    const Inputs in(batch);
    const auto gradient = [&](std::int64_t sample, const ConvParams& p) {
        Guarded dweight(p.weight_count(), DType::float32), dbias(p.c_out, DType::float32);
        dweight.fill(0);
        dbias.fill(0);
        conv_backward_weight(dweight.view(), dbias.view(), in.dy.slice(sample * single.y_count(), {p.y_count()}).view(),
                             in.x.slice(sample * single.x_count(), {p.x_count()}).view(), p, cpu_stream(2));
        std::vector<float> values;
        for (std::int64_t i = 0; i < p.weight_count(); ++i) values.push_back(dweight.view().as<float>()[i]);
        for (std::int64_t i = 0; i < p.c_out; ++i) values.push_back(dbias.view().as<float>()[i]);
        return values;
    };
    const auto whole = gradient(0, batch);
    std::vector<std::vector<float>> parts;
    for (std::int64_t n = 0; n < 4; ++n) parts.push_back(gradient(n, single));
    for (std::size_t i = 0; i < whole.size(); ++i) {
        const float expected = (parts[0][i] + parts[1][i]) + (parts[2][i] + parts[3][i]);
        REQUIRE(whole[i] == expected);
    }
}

}  // namespace cover::test
