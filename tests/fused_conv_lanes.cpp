// The fused convolution of the CPU against the plain CPU ops with the same vector code, bit for bit: only the
// statistics are summed in another order. The sixteen-lane code of the AVX-512 row runs on any machine with AVX2.
#include <cstring>

#include "kernels/cpu/conv_driver.h"
#include "kernels/cpu/conv_input.h"
#include "kernels/cpu/fused_conv.h"
#include "kernels/cpu/pool.h"
#include "kernels/pool.h"
#include "kernels/resize.h"
#include "tests/support.h"

namespace cover::cpu::lanes16 {
extern const ConvInputKernels conv_input_kernels;
extern const NormKernels norm_kernels;
extern const PoolKernels pool_kernels;
extern const ResizeKernels resize_kernels;
}  // namespace cover::cpu::lanes16

namespace cover::test {

extern const cpu::ConvKernels conv_kernels_lanes16;

namespace {

struct Rows {
    cpu::FusedConvKernels fused;
    const cpu::PoolKernels& pool;
};

const Rows rows_avx2{
    {cpu::conv_kernels_avx2, cpu::avx2::conv_input_kernels, cpu::avx2::norm_kernels, cpu::avx2::resize_kernels},
    cpu::avx2::pool_kernels};
const Rows rows_avx512{
    {cpu::conv_kernels_avx512, cpu::avx512::conv_input_kernels, cpu::avx512::norm_kernels, cpu::avx512::resize_kernels},
    cpu::avx512::pool_kernels};
const Rows rows_lanes16{
    {conv_kernels_lanes16, cpu::lanes16::conv_input_kernels, cpu::lanes16::norm_kernels, cpu::lanes16::resize_kernels},
    cpu::lanes16::pool_kernels};

Tensor values(std::int64_t count, std::uint32_t seed, double low = -1, double high = 1) {
    return random_tensor({count}, DType::float32, seed, low, high);
}

struct Part {
    Tensor x, mean, rstd, gamma, beta;

    Part(const FusedConvParams& p, int index) {
        const PendingParams& part = p.parts[index];
        if (part.channels == 0) return;
        const auto seed = static_cast<std::uint32_t>(10 * index);
        x = values(p.part_count(index), seed);
        if (part.groups == 0) return;
        mean = values(p.conv.n * part.groups, seed + 1);
        rstd = values(p.conv.n * part.groups, seed + 2, 0.5, 2);
        gamma = values(part.channels, seed + 3);
        beta = values(part.channels, seed + 4);
    }
    Pending pending(const PendingParams& part) const {
        if (part.channels == 0) return {};
        if (part.groups == 0) return {x.const_view(), {}, {}, {}, {}};
        return {x.const_view(), mean.const_view(), rstd.const_view(), gamma.const_view(), beta.const_view()};
    }
};

struct Inputs {
    Part first, second;
    Tensor weight, bias, dy;
    PendingInput input;

    explicit Inputs(const FusedConvParams& p)
        : first(p, 0),
          second(p, 1),
          weight(values(p.conv.weight_count(), 21)),
          bias(values(p.conv.c_out, 22)),
          dy(values(p.conv.y_count(), 23)),
          input{{first.pending(p.parts[0]), second.pending(p.parts[1])}} {}
};

struct Result {
    Tensor y, mean, rstd, dweight, dbias;

    explicit Result(const FusedConvParams& p)
        : y(Tensor::empty({p.conv.y_count()})),
          mean(values(std::max<std::int64_t>(1, p.conv.n * p.groups), 31)),
          rstd(values(std::max<std::int64_t>(1, p.conv.n * p.groups), 32)),
          dweight(values(p.conv.weight_count(), 33)),
          dbias(values(p.conv.c_out, 34)) {}
};

// One part as the plain ops store it.
Tensor stored(const Rows& rows, const Pending& part, const FusedConvParams& p, int index, Stream& stream) {
    const PendingParams& pending = p.parts[index];
    Tensor x = Tensor::empty({p.part_count(index)});
    if (pending.groups > 0)
        cpu::group_norm_apply(rows.fused.norm, x.view(), part.x, part.mean, part.rstd, part.gamma, part.beta,
                              p.part_norm(index), stream);
    else
        std::memcpy(x.view().data, part.x.data, x.bytes());
    if (pending.resampling == Resampling::none) return x;
    Tensor y = Tensor::empty({p.conv.n * p.conv.grid.pixels() * pending.channels});
    if (pending.resampling == Resampling::max_pool)
        cpu::max_pool(rows.pool, y.view(), x.view(), {p.conv.n, p.part_grid(index), pending.channels}, stream);
    else
        cpu::upsample(rows.fused.resize, y.view(), x.view(),
                      {p.conv.n, p.part_grid(index), pending.channels, false, 1.0}, stream);
    return y;
}

Tensor joined(const Rows& rows, const Inputs& in, const FusedConvParams& p, Stream& stream) {
    const Tensor first = stored(rows, in.input.parts[0], p, 0, stream);
    if (p.parts[1].channels == 0) return first;
    const Tensor second = stored(rows, in.input.parts[1], p, 1, stream);
    const std::int64_t pixels = p.conv.n * p.conv.grid.pixels(), a = p.parts[0].channels, b = p.parts[1].channels;
    Tensor both = Tensor::empty({p.conv.x_count()});
    for (std::int64_t i = 0; i < pixels; ++i) {
        std::memcpy(both.data<float>() + i * (a + b), first.data<float>() + i * a, static_cast<std::size_t>(a) * 4);
        std::memcpy(both.data<float>() + i * (a + b) + a, second.data<float>() + i * b,
                    static_cast<std::size_t>(b) * 4);
    }
    return both;
}

void run_plain(const Rows& rows, const Inputs& in, Result& out, const FusedConvParams& p, Stream& stream) {
    const Tensor values = joined(rows, in, p, stream);
    const cpu::StoredInput x(values.data<float>(), p.conv.c_in);
    cpu::conv_forward(rows.fused.conv, {out.y.data<float>(), p.conv.c_out}, x, in.weight.data<float>(),
                      in.bias.data<float>(), false, p.conv, stream);
    if (p.groups > 0)
        cpu::group_norm_statistics(rows.fused.norm, out.mean.view(), out.rstd.view(), out.y.view(), p.statistics(),
                                   stream);
    cpu::conv_weight_gradient(rows.fused.conv, out.dweight.data<float>(), out.dbias.data<float>(), in.dy.data<float>(),
                              x, p.conv, stream);
}

void run_fused(const Rows& rows, const Inputs& in, Result& out, const FusedConvParams& p, Stream& stream) {
    cpu::fused_conv(rows.fused, out.y.view(), p.groups > 0 ? out.mean.view() : View{},
                    p.groups > 0 ? out.rstd.view() : View{}, in.input, in.weight.const_view(), in.bias.const_view(), p,
                    stream);
    cpu::fused_conv_backward_weight(rows.fused, out.dweight.view(), out.dbias.view(), in.dy.const_view(), in.input, p,
                                    stream);
}

bool same(const Tensor& a, const Tensor& b) { return std::memcmp(a.view().data, b.view().data, a.bytes()) == 0; }

using enum Resampling;
// n, grid, parts, c_out, kernel, groups of y. Both ways to cut the forward pass and the weight gradient; several strips
// to a plane and several planes to a strip; blocks of 32 or, for kernel 1, 256 channels that lie in both parts.
struct Case {
    std::int64_t n;
    Grid grid;
    PendingParams first, second;
    std::int64_t c_out;
    int kernel;
    std::int64_t groups;

    FusedConvParams params() const {
        FusedConvParams p;
        p.conv = {n, grid, first.channels + second.channels, c_out, kernel};
        p.parts[0] = first;
        p.parts[1] = second;
        p.groups = groups;
        return p;
    }
};

const Case cases[] = {
    {2, {2, 1, 96, 66}, {32, 4, 0.2, none}, {}, 32, 3, 4},
    {1, {2, 1, 64, 48}, {32, 4, 0.2, max_pool}, {}, 64, 3, 8},
    {2, {2, 1, 72, 50}, {32, 4, 0.2, none}, {64, 8, 0.2, upsample}, 32, 3, 4},
    {1, {2, 1, 64, 64}, {20, 5, 0.2, upsample}, {30, 3, 0.1, max_pool}, 9, 3, 3},
    {2, {2, 1, 20, 22}, {3, 1, 0.2, max_pool}, {7, 0, 1.0, upsample}, 5, 1, 1},
    {1, {2, 1, 40, 40}, {200, 25, 0.2, none}, {104, 13, 0.2, upsample}, 24, 1, 3},
    {5, {2, 1, 4, 4}, {72, 9, 0.2, none}, {40, 5, 0.2, upsample}, 264, 3, 33},
    {2, {2, 1, 6, 8}, {257, 1, 0.2, max_pool}, {}, 130, 3, 2},
    {3, {2, 1, 9, 7}, {16, 2, 0.2, none}, {}, 24, 3, 0},
    {2, {2, 1, 90, 61}, {1, 0, 1.0, none}, {}, 32, 3, 4},
    {2, {2, 1, 30, 31}, {40, 0, 1.0, none}, {}, 24, 1, 3},
    {1, {3, 14, 20, 18}, {32, 4, 0.2, none}, {32, 4, 0.2, upsample}, 40, 3, 5},
    {2, {3, 6, 10, 12}, {24, 3, 0.2, max_pool}, {13, 1, 0.3, upsample}, 16, 3, 2},
    {1, {3, 2, 80, 90}, {16, 2, 0.2, upsample}, {16, 2, 0.2, max_pool}, 16, 3, 2},
    {2, {3, 2, 4, 4}, {128, 16, 0.2, upsample}, {}, 256, 3, 32},
};

void check(const Rows& rows) {
    for (const Case& c : cases) {
        const FusedConvParams p = c.params();
        CAPTURE(Shape({p.conv.n, p.conv.grid.d, p.conv.grid.h, p.conv.grid.w, p.conv.c_in, p.conv.c_out}).to_string());
        validate(p);
        const Inputs in(p);
        Result plain(p), one(p), three(p);
        run_plain(rows, in, plain, p, cpu_stream(2));
        run_fused(rows, in, one, p, cpu_stream(1));
        run_fused(rows, in, three, p, cpu_stream(3));
        CHECK(same(one.y, plain.y));
        CHECK(same(one.dweight, plain.dweight));
        CHECK(same(one.dbias, plain.dbias));
        CHECK(difference(one.mean.view(), plain.mean.view(), 1e-5, 1e-5) == "");
        CHECK(difference(one.rstd.view(), plain.rstd.view(), 1e-6, 1e-5) == "");
        CHECK(same(three.y, one.y));
        CHECK(same(three.mean, one.mean));
        CHECK(same(three.rstd, one.rstd));
        CHECK(same(three.dweight, one.dweight));
        CHECK(same(three.dbias, one.dbias));
    }
}

}  // namespace

TEST_CASE("fused_conv: cpu_avx2 equals the plain ops") {
    if (!machine_facts().avx2) return skip("this machine has no AVX2");
    check(rows_avx2);
}

TEST_CASE("fused_conv: cpu_avx512 equals the plain ops") {
    if (!machine_facts().avx512) return skip("this machine has no AVX-512");
    check(rows_avx512);
}

TEST_CASE("fused_conv: the sixteen-lane code equals the plain ops") {
    if (!machine_facts().avx2) return skip("this machine has no AVX2");
    check(rows_lanes16);
}

}  // namespace cover::test
