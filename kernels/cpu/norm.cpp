#include "kernels/cpu/norm.h"

#include <cmath>
#include <vector>

#include "kernels/cpu/norm_parts.h"

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

struct Statistics {
    double mean, variance;
};

// One group of one sample from the pieces' sums, which are relative to the first pixel of each piece. In double:
// first the mean, then the squared deviations about it.
Statistics group_statistics(std::span<const SummedPiece> pieces, std::int64_t fold, const GroupNormParams& p,
                            std::int64_t group) {
    const std::int64_t channels = p.channels, width = p.channels / p.groups;
    const double count = static_cast<double>(p.pixels * width);
    const auto over_channels = [&](auto&& body) {
        for (const SummedPiece& piece : pieces) {
            const auto pixels = static_cast<double>(piece.pixels);
            for (std::int64_t i = 0; i < fold; ++i) {
                for (std::int64_t c = 0; c < width; ++c) {
                    const std::int64_t at = i * channels + group * width + c;
                    body(double{piece.first[at]}, double{piece.sums[at]}, double{piece.sums[fold * channels + at]},
                         pixels);
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

// Calls body(first sample, samples) for groups of samples whose maps stay in the last-level cache between the pass that
// sums and the pass that applies.
template <class Body>
void for_sample_groups(const GroupNormParams& p, const Body& body) {
    const Pieces samples = Pieces::of(p.n, p.pixels * p.channels, 1 << 20);
    for (std::int64_t i = 0; i < samples.count(); ++i) body(samples.begin(i), samples.length(i));
}

// Calls body(sample, piece, offset of the piece's first element, folded pixels) for all pieces of some samples.
template <class Body>
void for_pieces(const Folded& f, std::int64_t first, std::int64_t samples, Stream& stream, const Body& body) {
    const std::int64_t pieces = f.pieces.count();
    stream.parallel(samples * pieces, [&](std::int64_t task) {
        const std::int64_t sample = first + task / pieces, piece = task % pieces;
        body(sample, piece, (sample * f.pixels + f.pieces.begin(piece)) * f.channels, f.pieces.length(piece));
    });
}

// The sums of every piece of some samples; sums: (n, pieces, 2, folded channels).
void sum_pieces(const NormKernels& kernels, float* sums, const float* x, const Folded& f, std::int64_t first,
                std::int64_t samples, Stream& stream) {
    const std::int64_t pieces = f.pieces.count();
    for_pieces(f, first, samples, stream,
               [&](std::int64_t sample, std::int64_t piece, std::int64_t at, std::int64_t pixels) {
                   float* sum = sums + (sample * pieces + piece) * 2 * f.channels;
                   kernels.moments(sum, sum + f.channels, x + at, pixels, f.channels);
               });
}

// mean and rstd (N, groups) of one sample.
void finish_sample(float* mean, float* rstd, float* sums, const float* x, const Folded& f, const GroupNormParams& p,
                   std::int64_t sample) {
    std::vector<SummedPiece> pieces;
    for (std::int64_t piece = 0; piece < f.pieces.count(); ++piece)
        pieces.push_back({x + (sample * f.pixels + f.pieces.begin(piece)) * f.channels,
                          sums + (sample * f.pieces.count() + piece) * 2 * f.channels, f.pieces.length(piece)});
    join_moments(mean + sample * p.groups, rstd + sample * p.groups, pieces, f.fold, p);
}

}  // namespace

void join_moments(float* mean, float* rstd, std::span<const SummedPiece> pieces, std::int64_t fold,
                  const GroupNormParams& p) {
    for (std::int64_t group = 0; group < p.groups; ++group) {
        const Statistics s = group_statistics(pieces, fold, p, group);
        mean[group] = static_cast<float>(s.mean);
        rstd[group] = static_cast<float>(1 / std::sqrt(s.variance + p.epsilon));
    }
}

void AffineTables::fill(std::int64_t sample, const float* mean, const float* rstd, const float* gamma,
                        const float* beta) {
    const std::int64_t width = p_.channels / p_.groups;
    fill_folded(scale_, sample, fold_, p_.channels, [&](std::int64_t c) { return gamma[c] * rstd[c / width]; });
    fill_folded(shift_, sample, fold_, p_.channels,
                [&](std::int64_t c) { return beta[c] - double{mean[c / width]} * double{gamma[c] * rstd[c / width]}; });
}

void group_norm(const NormKernels& kernels, View y, View mean, View rstd, ConstView x, ConstView gamma, ConstView beta,
                const GroupNormParams& params, Stream& stream) {
    const Folded f(params);
    const auto* from = x.as<float>();
    auto* to = y.as<float>();
    auto *means = mean.as<float>(), *rstds = rstd.as<float>();
    const bool streaming = worth_streaming(to, params.count(), f.channels);
    Workspace<float> sums(params.n * f.pieces.count() * 2 * f.channels);
    AffineTables affine(params, f.fold);
    for_sample_groups(params, [&](std::int64_t first, std::int64_t samples) {
        sum_pieces(kernels, sums.data(), from, f, first, samples, stream);
        stream.parallel(samples, [&](std::int64_t i) {
            const std::int64_t sample = first + i;
            finish_sample(means, rstds, sums.data(), from, f, params, sample);
            affine.fill(sample, means + sample * params.groups, rstds + sample * params.groups, gamma.as<float>(),
                        beta.as<float>());
        });
        for_pieces(f, first, samples, stream,
                   [&](std::int64_t sample, std::int64_t, std::int64_t at, std::int64_t pixels) {
                       kernels.apply(to + at, from + at, affine.at(sample), pixels, f.channels, streaming);
                   });
    });
}

void group_norm_statistics(const NormKernels& kernels, View mean, View rstd, ConstView x, const GroupNormParams& params,
                           Stream& stream) {
    const Folded f(params);
    Workspace<float> sums(params.n * f.pieces.count() * 2 * f.channels);
    sum_pieces(kernels, sums.data(), x.as<float>(), f, 0, params.n, stream);
    stream.parallel(params.n, [&](std::int64_t sample) {
        finish_sample(mean.as<float>(), rstd.as<float>(), sums.data(), x.as<float>(), f, params, sample);
    });
}

void group_norm_apply(const NormKernels& kernels, View y, ConstView x, ConstView mean, ConstView rstd, ConstView gamma,
                      ConstView beta, const GroupNormParams& params, Stream& stream) {
    const Folded f(params);
    const bool streaming = worth_streaming(y.as<float>(), params.count(), f.channels);
    AffineTables affine(params, f.fold);
    affine.fill_all(mean.as<float>(), rstd.as<float>(), gamma.as<float>(), beta.as<float>());
    for_pieces(f, 0, params.n, stream, [&](std::int64_t sample, std::int64_t, std::int64_t at, std::int64_t pixels) {
        kernels.apply(y.as<float>() + at, x.as<float>() + at, affine.at(sample), pixels, f.channels, streaming);
    });
}

void group_norm_backward(const NormKernels& kernels, View dx, View dgamma, View dbeta, ConstView dy, ConstView x,
                         ConstView mean, ConstView rstd, ConstView gamma, ConstView beta, const GroupNormParams& params,
                         Stream& stream) {
    const Folded f(params);
    const std::int64_t pieces = f.pieces.count(), width = params.channels / params.groups;
    const std::int64_t channels = params.channels;
    const auto *g = gamma.as<float>(), *from = x.as<float>(), *cotangent = dy.as<float>();
    auto* to = dx.as<float>();
    const bool streaming = worth_streaming(to, params.count(), f.channels);
    Workspace<float> means(params.n * f.channels), sums(params.n * pieces * 2 * f.channels);
    Workspace<float> by_x(params.n * f.channels), constant(params.n * f.channels);
    Workspace<double> totals(params.n * 2 * channels);  // per sample: sums of g, then of g * xhat, by channel
    AffineTables affine(params, f.fold);
    const auto combine = [&](std::int64_t sample) {
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
        Workspace<double> averages(2 * params.groups);
        const auto count = static_cast<double>(params.pixels * width);
        for (std::int64_t group = 0; group < params.groups; ++group) {
            double a = 0, b = 0;
            for (std::int64_t c = group * width; c < (group + 1) * width; ++c) {
                a += g[c] * total[c];
                b += g[c] * total[channels + c];
            }
            averages[2 * group] = a / count;
            averages[2 * group + 1] = b / count;
        }
        fill_folded(by_x, sample, f.fold, channels, [&](std::int64_t c) {
            const double rs = r[c / width];
            return -rs * rs * averages[2 * (c / width) + 1];
        });
        fill_folded(constant, sample, f.fold, channels,
                    [&](std::int64_t c) { return -double{r[c / width]} * averages[2 * (c / width)]; });
    };

    for (std::int64_t sample = 0; sample < params.n; ++sample) {
        const float* m = mean.as<float>() + sample * params.groups;
        fill_folded(means, sample, f.fold, channels, [&](std::int64_t c) { return m[c / width]; });
        affine.fill(sample, m, rstd.as<float>() + sample * params.groups, g, beta.as<float>());
    }
    for_sample_groups(params, [&](std::int64_t first, std::int64_t samples) {
        for_pieces(f, first, samples, stream,
                   [&](std::int64_t sample, std::int64_t piece, std::int64_t at, std::int64_t pixels) {
                       float* sum = sums.data() + (sample * pieces + piece) * 2 * f.channels;
                       kernels.gradient_sums(sum, sum + f.channels, cotangent + at, from + at,
                                             means.data() + sample * f.channels, affine.at(sample), pixels, f.channels);
                   });
        stream.parallel(samples, [&](std::int64_t i) { combine(first + i); });
        for_pieces(f, first, samples, stream,
                   [&](std::int64_t sample, std::int64_t, std::int64_t at, std::int64_t pixels) {
                       const std::int64_t row = sample * f.channels;
                       kernels.gradient_apply(to + at, cotangent + at, from + at, means.data() + row, affine.at(sample),
                                              by_x.data() + row, constant.data() + row, pixels, f.channels, streaming);
                   });
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

std::span<const GroupNormStatisticsVariant> group_norm_statistics_rows() {
    return simd_rows<GroupNormStatisticsVariant, GroupNormParams, GroupNormStatisticsRun, group_norm_statistics,
                     avx2::norm_kernels, avx512::norm_kernels>();
}

std::span<const GroupNormApplyVariant> group_norm_apply_rows() {
    return simd_rows<GroupNormApplyVariant, GroupNormParams, GroupNormApplyRun, group_norm_apply, avx2::norm_kernels,
                     avx512::norm_kernels>();
}

std::span<const GroupNormBackwardVariant> group_norm_backward_rows() {
    return simd_rows<GroupNormBackwardVariant, GroupNormParams, GroupNormBackwardRun, group_norm_backward,
                     avx2::norm_kernels, avx512::norm_kernels>();
}

}  // namespace cover::cpu
