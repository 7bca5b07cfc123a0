#include "kernels/cpu/norm.h"

#include <cmath>

#include "kernels/cpu/rows.h"
#include "kernels/norm.h"

namespace cover::cpu {
namespace {

// Pixels and channels as the vector code sees them: `fold` neighbouring pixels are one.
struct Folded {
    std::int64_t fold, pixels, channels;
    Pieces pieces;

    explicit Folded(const GroupNormParams& p) : fold(1), pieces{1, 1} {
        while (p.channels * fold < 32 && p.pixels % (fold * 2) == 0) fold *= 2;
        pixels = p.pixels / fold;
        channels = p.channels * fold;
        pieces = Pieces::of(pixels, channels, task_elements);
    }
};

// Tables of one value per folded channel and sample, out of one value per channel: row `sample` of `values`.
template <class Value>
void fill_folded(Workspace<float>& values, std::int64_t sample, const Folded& f, std::int64_t channels, Value value) {
    float* row = values.data() + sample * f.channels;
    for (std::int64_t c = 0; c < channels; ++c) {
        const auto v = static_cast<float>(value(c));
        for (std::int64_t i = 0; i < f.fold; ++i) row[i * channels + c] = v;
    }
}

struct Statistics {
    double mean, variance;
};

// One group of one sample from the pieces' sums, which are relative to the first pixel of each piece. In double:
// first the mean, then the squared deviations about it.
Statistics group_statistics(const float* sums, const float* x, const Folded& f, std::int64_t channels,
                            std::int64_t group, std::int64_t width) {
    const double count = static_cast<double>(f.pixels * f.fold * width);
    const auto over_channels = [&](auto&& body) {
        for (std::int64_t piece = 0; piece < f.pieces.count(); ++piece) {
            const float* sum = sums + piece * 2 * f.channels;
            const float* origin = x + f.pieces.begin(piece) * f.channels;
            const auto pixels = static_cast<double>(f.pieces.length(piece));
            for (std::int64_t i = 0; i < f.fold; ++i) {
                for (std::int64_t c = 0; c < width; ++c) {
                    const std::int64_t at = i * channels + group * width + c;
                    body(double{origin[at]}, double{sum[at]}, double{sum[f.channels + at]}, pixels);
                }
            }
        }
    };
    double total = 0;
    over_channels([&](double origin, double sum, double, double pixels) { total += origin * pixels + sum; });
    const double mean = total / count;
    double deviations = 0;
    over_channels([&](double origin, double sum, double square, double pixels) {
        const double distance = origin + sum / pixels - mean;
        deviations += square - sum * sum / pixels + pixels * distance * distance;
    });
    return {mean, std::max(deviations / count, 0.0)};
}

}  // namespace

void group_norm(const NormKernels& kernels, View y, View mean, View rstd, ConstView x, ConstView gamma, ConstView beta,
                const GroupNormParams& params, Stream& stream) {
    const Folded f(params);
    const std::int64_t pieces = f.pieces.count(), width = params.channels / params.groups;
    const std::int64_t sample_size = f.pixels * f.channels;
    const auto* from = x.as<float>();
    Workspace<float> sums(params.n * pieces * 2 * f.channels), scale(params.n * f.channels),
        shift(params.n * f.channels);
    stream.parallel(params.n * pieces, [&](std::int64_t task) {
        const std::int64_t sample = task / pieces, piece = task % pieces;
        float* sum = sums.data() + task * 2 * f.channels;
        kernels.moments(sum, sum + f.channels, from + sample * sample_size + f.pieces.begin(piece) * f.channels,
                        f.pieces.length(piece), f.channels);
    });
    const auto *g = gamma.as<float>(), *b = beta.as<float>();
    stream.parallel(params.n, [&](std::int64_t sample) {
        float* means = mean.as<float>() + sample * params.groups;
        float* rstds = rstd.as<float>() + sample * params.groups;
        Workspace<double> exact(2 * params.groups);
        for (std::int64_t group = 0; group < params.groups; ++group) {
            const Statistics s = group_statistics(sums.data() + sample * pieces * 2 * f.channels,
                                                  from + sample * sample_size, f, params.channels, group, width);
            exact[2 * group] = s.mean;
            exact[2 * group + 1] = 1 / std::sqrt(s.variance + params.epsilon);
            means[group] = static_cast<float>(exact[2 * group]);
            rstds[group] = static_cast<float>(exact[2 * group + 1]);
        }
        // The coefficients come from the stored mean and rstd, so that the backward pass finds the same signs.
        fill_folded(scale, sample, f, params.channels, [&](std::int64_t c) { return g[c] * rstds[c / width]; });
        fill_folded(shift, sample, f, params.channels,
                    [&](std::int64_t c) { return b[c] - double{means[c / width]} * double{g[c] * rstds[c / width]}; });
    });
    stream.parallel(params.n * pieces, [&](std::int64_t task) {
        const std::int64_t sample = task / pieces, piece = task % pieces;
        const std::int64_t at = sample * sample_size + f.pieces.begin(piece) * f.channels;
        kernels.apply(
            y.as<float>() + at, from + at,
            {scale.data() + sample * f.channels, shift.data() + sample * f.channels, static_cast<float>(params.slope)},
            f.pieces.length(piece), f.channels);
    });
}

void group_norm_backward(const NormKernels& kernels, View dx, View dgamma, View dbeta, ConstView dy, ConstView x,
                         ConstView mean, ConstView rstd, ConstView gamma, ConstView beta, const GroupNormParams& params,
                         Stream& stream) {
    const Folded f(params);
    const std::int64_t pieces = f.pieces.count(), width = params.channels / params.groups;
    const std::int64_t channels = params.channels, sample_size = f.pixels * f.channels;
    const auto *g = gamma.as<float>(), *b = beta.as<float>();
    Workspace<float> means(params.n * f.channels), scale(params.n * f.channels), shift(params.n * f.channels);
    for (std::int64_t sample = 0; sample < params.n; ++sample) {
        const float* m = mean.as<float>() + sample * params.groups;
        const float* r = rstd.as<float>() + sample * params.groups;
        fill_folded(means, sample, f, channels, [&](std::int64_t c) { return m[c / width]; });
        fill_folded(scale, sample, f, channels, [&](std::int64_t c) { return g[c] * r[c / width]; });
        fill_folded(shift, sample, f, channels,
                    [&](std::int64_t c) { return b[c] - double{m[c / width]} * double{g[c] * r[c / width]}; });
    }
    const auto affine = [&](std::int64_t sample) {
        return NormAffine{scale.data() + sample * f.channels, shift.data() + sample * f.channels,
                          static_cast<float>(params.slope)};
    };

    Workspace<float> sums(params.n * pieces * 2 * f.channels);
    stream.parallel(params.n * pieces, [&](std::int64_t task) {
        const std::int64_t sample = task / pieces, piece = task % pieces;
        const std::int64_t at = sample * sample_size + f.pieces.begin(piece) * f.channels;
        float* sum = sums.data() + task * 2 * f.channels;
        kernels.gradient_sums(sum, sum + f.channels, dy.as<float>() + at, x.as<float>() + at,
                              means.data() + sample * f.channels, affine(sample), f.pieces.length(piece), f.channels);
    });

    // Per sample: sums of g (first half of a row) and of g * xhat (second half) per channel.
    Workspace<double> totals(params.n * 2 * channels);
    Workspace<float> by_x(params.n * f.channels), constant(params.n * f.channels);
    stream.parallel(params.n, [&](std::int64_t sample) {
        const float* r = rstd.as<float>() + sample * params.groups;
        double* total = totals.data() + sample * 2 * channels;
        std::fill(total, total + 2 * channels, 0.0);
        for (std::int64_t piece = 0; piece < pieces; ++piece) {
            const float* sum = sums.data() + (sample * pieces + piece) * 2 * f.channels;
            for (std::int64_t i = 0; i < f.fold; ++i) {
                for (std::int64_t c = 0; c < channels; ++c) {
                    total[c] += sum[i * channels + c];
                    total[channels + c] += sum[f.channels + i * channels + c];
                }
            }
        }
        for (std::int64_t c = 0; c < channels; ++c) total[channels + c] *= r[c / width];
        // dx = rstd * (gamma g - A - xhat B), A and B the group's means of gamma g and gamma g xhat.
        Workspace<double> means_of(2 * params.groups);
        for (std::int64_t group = 0; group < params.groups; ++group) {
            double a = 0, by = 0;
            for (std::int64_t c = group * width; c < (group + 1) * width; ++c) {
                a += g[c] * total[c];
                by += g[c] * total[channels + c];
            }
            const auto count = static_cast<double>(params.pixels * width);
            means_of[2 * group] = a / count;
            means_of[2 * group + 1] = by / count;
        }
        fill_folded(by_x, sample, f, channels, [&](std::int64_t c) {
            const double rs = r[c / width];
            return -rs * rs * means_of[2 * (c / width) + 1];
        });
        fill_folded(constant, sample, f, channels,
                    [&](std::int64_t c) { return -double{r[c / width]} * means_of[2 * (c / width)]; });
    });

    stream.parallel(params.n * pieces, [&](std::int64_t task) {
        const std::int64_t sample = task / pieces, piece = task % pieces;
        const std::int64_t at = sample * sample_size + f.pieces.begin(piece) * f.channels, row = sample * f.channels;
        kernels.gradient_apply(dx.as<float>() + at, dy.as<float>() + at, x.as<float>() + at, means.data() + row,
                               affine(sample), by_x.data() + row, constant.data() + row, f.pieces.length(piece),
                               f.channels);
    });

    tree_sum(totals.data(), params.n, 2 * channels);
    for (std::int64_t c = 0; c < channels; ++c) {
        dbeta.as<float>()[c] += static_cast<float>(totals[c]);
        dgamma.as<float>()[c] += static_cast<float>(totals[channels + c]);
    }
}

std::span<const GroupNormVariant> group_norm_rows() {
    return simd_rows<GroupNormVariant, GroupNormParams, GroupNormRun, group_norm, avx2::norm_kernels,
                     avx512::norm_kernels>();
}

std::span<const GroupNormBackwardVariant> group_norm_backward_rows() {
    return simd_rows<GroupNormBackwardVariant, GroupNormParams, GroupNormBackwardRun, group_norm_backward,
                     avx2::norm_kernels, avx512::norm_kernels>();
}

}  // namespace cover::cpu
