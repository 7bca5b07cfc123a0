// Group norm. Passes over x keep sums per (sample, slice of pixels, channel), which are added over slices and channels
// in index order; slices depend on the shape alone.
#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace norm {

constexpr int pixels_per_thread = 32;
constexpr int chunk = 8;  // pixels whose mean a thread takes at once
static_assert(pixels_per_thread % chunk == 0);

// How a matrix of (rows, channels) per sample is cut among blocks: the threads of a block stand in `rows` rows of
// `columns` neighbouring channels. A thread keeps its channel and goes through the rows of its slice in steps of
// `rows`.
struct Cut {
    std::int64_t channels, tiles, length, slice, slices;
    int columns, rows, tree;  // tree: the smallest power of two that is not below `rows`

    constexpr std::int64_t blocks(std::int64_t n) const { return n * slices * tiles; }
    constexpr std::int64_t length_of(std::int64_t index) const {
        return index + 1 < slices ? slice : length - index * slice;
    }
};

Cut cut_of(std::int64_t channels, std::int64_t length, std::int64_t rows_per_thread) {
    Cut cut{};
    cut.channels = channels;
    cut.length = length;
    cut.columns = static_cast<int>(std::min<std::int64_t>(channels, threads_per_block));
    cut.tiles = (channels + cut.columns - 1) / cut.columns;
    cut.rows = static_cast<int>(threads_per_block) / cut.columns;
    cut.tree = static_cast<int>(std::bit_ceil(static_cast<unsigned>(cut.rows)));
    cut.slice = std::min(length, cut.rows * rows_per_thread);
    cut.slices = (length + cut.slice - 1) / cut.slice;
    return cut;
}

// Of one thread. `begin` is its first row, `end` that of the next slice; both are equal for a thread without a channel.
struct Place {
    std::int64_t n, slice, c, begin, end;
    int row, column;
};

__device__ Place place_of(const Cut& cut) {
    Place at;
    const std::int64_t block = blockIdx.x, tile = block % cut.tiles;
    at.slice = block / cut.tiles % cut.slices;
    at.n = block / cut.tiles / cut.slices;
    at.row = static_cast<int>(threadIdx.x) / cut.columns;
    at.column = static_cast<int>(threadIdx.x) % cut.columns;
    at.c = tile * cut.columns + at.column;
    at.end = at.slice * cut.slice + cut.length_of(at.slice);
    const bool idle = at.row >= cut.rows || at.c >= cut.channels;
    at.begin = idle ? at.end : at.slice * cut.slice + at.row;
    return at;
}

// The sum of `value` over the rows of the thread's column, known to all of them; `scratch` has an element per thread.
// Every thread of the block has to come here.
__device__ double column_sum(double value, double* scratch, const Place& at, const Cut& cut) {
    block_sync();  // an earlier sum's scratch has been read
    scratch[threadIdx.x] = value;
    for (int half = cut.tree / 2; half > 0; half /= 2) {
        block_sync();
        if (at.row < half && at.row + half < cut.rows)
            scratch[threadIdx.x] += scratch[threadIdx.x + static_cast<unsigned>(half * cut.columns)];
    }
    block_sync();
    return scratch[at.column];
}

constexpr std::size_t column_sum_bytes() { return Shared::shared_bytes_of<double>(threads_per_block); }

// Mean, and sum of the squares about it.
struct Moments {
    float count, mean, squares;
};

// A thread's share of its slice: moments of a chunk, merged into those of the chunks before.
__device__ Moments moments_of(const float* x, const Place& at, const Cut& cut) {
    Moments all{0, 0, 0};
    for (std::int64_t first = at.begin; first < at.end; first += chunk * cut.rows) {
        float values[chunk], count = 0, sum = 0, squares = 0;
        for (int k = 0; k < chunk; ++k) {
            const bool inside = first + k * cut.rows < at.end;
            values[k] = inside ? x[(at.n * cut.length + first + k * cut.rows) * cut.channels + at.c] : 0;
            sum += values[k];
            count += inside ? 1.0f : 0.0f;
        }
        const float mean = sum / count;
        for (int k = 0; k < chunk; ++k) {
            const float centred = static_cast<float>(k) < count ? values[k] - mean : 0;
            squares = std::fma(centred, centred, squares);
        }
        const float step = mean - all.mean, share = count / (all.count + count);
        all.mean = std::fma(step, share, all.mean);
        all.squares += std::fma(step * step, all.count * share, squares);
        all.count += count;
    }
    return all;
}

// means, squares: (N, slices, C).
__global__ void slice_moments(double* means, double* squares, const float* x, Cut cut) {
    Shared shared;
    double* scratch = shared.take<double>(threads_per_block);
    const Place at = place_of(cut);
    const Moments own = moments_of(x, at, cut);
    const double count = static_cast<double>(own.count), own_mean = static_cast<double>(own.mean);
    const double mean = column_sum(count * own_mean, scratch, at, cut) / static_cast<double>(cut.length_of(at.slice));
    const double step = own_mean - mean;
    const double sum = column_sum(static_cast<double>(own.squares) + count * step * step, scratch, at, cut);
    if (at.row > 0 || at.c >= cut.channels) return;
    const std::int64_t to = (at.n * cut.slices + at.slice) * cut.channels + at.c;
    means[to] = mean;
    squares[to] = sum;
}

// One block per (sample, group).
__global__ void group_statistics(float* mean, float* rstd, const double* means, const double* squares,
                                 GroupNormParams p, Cut cut) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    const std::int64_t width = p.channels / p.groups, n = blockIdx.x / p.groups, group = blockIdx.x % p.groups;
    const std::int64_t first = n * cut.slices * p.channels + group * width;
    const double count = static_cast<double>(p.pixels * width);
    double sum = 0;
    for (std::int64_t i = threadIdx.x; i < cut.slices * width; i += threads_per_block) {
        const std::int64_t slice = i / width;
        sum += static_cast<double>(cut.length_of(slice)) * means[first + slice * p.channels + i % width];
    }
    const double centre = block_sum(sum, scratch) / count;
    double spread = 0;
    for (std::int64_t i = threadIdx.x; i < cut.slices * width; i += threads_per_block) {
        const std::int64_t slice = i / width, from = first + slice * p.channels + i % width;
        const double step = means[from] - centre;
        spread += squares[from] + static_cast<double>(cut.length_of(slice)) * step * step;
    }
    spread = block_sum(spread, scratch);
    if (threadIdx.x > 0) return;
    mean[blockIdx.x] = static_cast<float>(centre);
    rstd[blockIdx.x] = static_cast<float>(1.0 / std::sqrt(spread / count + p.epsilon));
}

// What a thread needs to know of its channel. The value before the activation is a fixed chain of roundings, so that
// backward recomputes the sign that forward saw.
struct Channel {
    float mean, rstd, gamma, beta, slope;

    __device__ float normalised(float x) const { return (x - mean) * rstd; }
    __device__ float activated(float xhat) const {
        const float z = std::fma(xhat, gamma, beta);
        return z > 0 ? z : z * slope;
    }
    __device__ float cotangent(float dy, float xhat) const { return std::fma(xhat, gamma, beta) > 0 ? dy : dy * slope; }
};

__device__ Channel channel_of(const float* mean, const float* rstd, const float* gamma, const float* beta,
                              const GroupNormParams& p, const Place& at) {
    if (at.c >= p.channels) return {};
    const std::int64_t group = at.n * p.groups + at.c / (p.channels / p.groups);
    return {mean[group], rstd[group], gamma[at.c], beta[at.c], static_cast<float>(p.slope)};
}

__global__ void normalise(float* y, const float* mean, const float* rstd, const float* x, const float* gamma,
                          const float* beta, GroupNormParams p, Cut cut) {
    const Place at = place_of(cut);
    const Channel channel = channel_of(mean, rstd, gamma, beta, p, at);
    for (std::int64_t pixel = at.begin; pixel < at.end; pixel += cut.rows) {
        const std::int64_t i = (at.n * p.pixels + pixel) * p.channels + at.c;
        y[i] = channel.activated(channel.normalised(x[i]));
    }
}

// Sums of dz and of dz * xhat: (N, slices, C).
__global__ void slice_gradients(double* sums_dz, double* sums_dz_xhat, const float* dy, const float* x,
                                const float* mean, const float* rstd, const float* gamma, const float* beta,
                                GroupNormParams p, Cut cut) {
    Shared shared;
    double* scratch = shared.take<double>(threads_per_block);
    const Place at = place_of(cut);
    const Channel channel = channel_of(mean, rstd, gamma, beta, p, at);
    float sum_dz = 0, sum_dz_xhat = 0;
    for (std::int64_t pixel = at.begin; pixel < at.end; pixel += cut.rows) {
        const std::int64_t i = (at.n * p.pixels + pixel) * p.channels + at.c;
        const float xhat = channel.normalised(x[i]), dz = channel.cotangent(dy[i], xhat);
        sum_dz += dz;
        sum_dz_xhat = std::fma(dz, xhat, sum_dz_xhat);
    }
    const double total_dz = column_sum(static_cast<double>(sum_dz), scratch, at, cut);
    const double total_dz_xhat = column_sum(static_cast<double>(sum_dz_xhat), scratch, at, cut);
    if (at.row > 0 || at.c >= cut.channels) return;
    const std::int64_t to = (at.n * cut.slices + at.slice) * cut.channels + at.c;
    sums_dz[to] = total_dz;
    sums_dz_xhat[to] = total_dz_xhat;
}

// (N, slices, C) to (N, C). `cut` is that of the sums: its rows are slices, and all of them are one slice.
__global__ void channel_totals(double* totals, const double* sums, Cut cut) {
    Shared shared;
    double* scratch = shared.take<double>(threads_per_block);
    const Place at = place_of(cut);
    double sum = 0;
    for (std::int64_t row = at.begin; row < at.end; row += cut.rows)
        sum += sums[(at.n * cut.length + row) * cut.channels + at.c];
    sum = column_sum(sum, scratch, at, cut);
    if (at.row == 0 && at.c < cut.channels) totals[at.n * cut.channels + at.c] = sum;
}

// The means over a group of dz * gamma and of dz * gamma * xhat.
struct GroupMeans {
    float dz_gamma, dz_gamma_xhat;
};

// One thread per (sample, group).
__global__ void group_means(GroupMeans* means, const double* totals_dz, const double* totals_dz_xhat,
                            const float* gamma, GroupNormParams p) {
    const std::int64_t i = global_thread();
    if (i >= p.n * p.groups) return;
    const std::int64_t width = p.channels / p.groups, n = i / p.groups, begin = i % p.groups * width;
    double sum = 0, sum_xhat = 0;
    for (std::int64_t c = begin; c < begin + width; ++c) {
        sum += static_cast<double>(gamma[c]) * totals_dz[n * p.channels + c];
        sum_xhat += static_cast<double>(gamma[c]) * totals_dz_xhat[n * p.channels + c];
    }
    const double count = static_cast<double>(p.pixels * width);
    means[i] = {static_cast<float>(sum / count), static_cast<float>(sum_xhat / count)};
}

// One thread per channel; samples in order.
__global__ void accumulate_parameters(float* dgamma, float* dbeta, const double* totals_dz,
                                      const double* totals_dz_xhat, GroupNormParams p) {
    const std::int64_t c = global_thread();
    if (c >= p.channels) return;
    double sum_gamma = 0, sum_beta = 0;
    for (std::int64_t n = 0; n < p.n; ++n) {
        sum_gamma += totals_dz_xhat[n * p.channels + c];
        sum_beta += totals_dz[n * p.channels + c];
    }
    dgamma[c] = static_cast<float>(static_cast<double>(dgamma[c]) + sum_gamma);
    dbeta[c] = static_cast<float>(static_cast<double>(dbeta[c]) + sum_beta);
}

__global__ void input_gradient(float* dx, const float* dy, const float* x, const float* mean, const float* rstd,
                               const float* gamma, const float* beta, const GroupMeans* means, GroupNormParams p,
                               Cut cut) {
    const Place at = place_of(cut);
    const Channel channel = channel_of(mean, rstd, gamma, beta, p, at);
    const std::int64_t width = p.channels / p.groups;
    const GroupMeans group = at.begin < at.end ? means[at.n * p.groups + at.c / width] : GroupMeans{0, 0};
    for (std::int64_t pixel = at.begin; pixel < at.end; pixel += cut.rows) {
        const std::int64_t i = (at.n * p.pixels + pixel) * p.channels + at.c;
        const float xhat = channel.normalised(x[i]), dz = channel.cotangent(dy[i], xhat);
        const float centred = std::fma(dz, channel.gamma, -group.dz_gamma);
        dx[i] = channel.rstd * std::fma(-xhat, group.dz_gamma_xhat, centred);
    }
}

void run(View y, View mean, View rstd, ConstView x, ConstView gamma, ConstView beta, const GroupNormParams& p,
         Stream& stream) {
    const Cut cut = cut_of(p.channels, p.pixels, pixels_per_thread);
    const unsigned blocks = blocks_for(cut.blocks(p.n), 1);
    Workspace<double> means(p.n * cut.slices * p.channels, stream), squares(p.n * cut.slices * p.channels, stream);
    launch(stream, "group_norm, slices", blocks, threads_per_block, column_sum_bytes(), slice_moments, means.data(),
           squares.data(), x.as<float>(), cut);
    launch(stream, "group_norm, groups", blocks_for(p.n * p.groups, 1), threads_per_block, block_sum_bytes<double>(),
           group_statistics, mean.as<float>(), rstd.as<float>(), means.data(), squares.data(), p, cut);
    launch(stream, "group_norm", blocks, threads_per_block, 0, normalise, y.as<float>(), mean.as<float>(),
           rstd.as<float>(), x.as<float>(), gamma.as<float>(), beta.as<float>(), p, cut);
}

void run_backward(View dx, View dgamma, View dbeta, ConstView dy, ConstView x, ConstView mean, ConstView rstd,
                  ConstView gamma, ConstView beta, const GroupNormParams& p, Stream& stream) {
    const Cut cut = cut_of(p.channels, p.pixels, pixels_per_thread);
    const Cut totals_cut = cut_of(p.channels, cut.slices, cut.slices);
    const unsigned blocks = blocks_for(cut.blocks(p.n), 1), totals_blocks = blocks_for(totals_cut.blocks(p.n), 1);
    Workspace<double> sums_dz(p.n * cut.slices * p.channels, stream),
        sums_dz_xhat(p.n * cut.slices * p.channels, stream), totals_dz(p.n * p.channels, stream),
        totals_dz_xhat(p.n * p.channels, stream);
    Workspace<GroupMeans> means(p.n * p.groups, stream);
    launch(stream, "group_norm_backward, slices", blocks, threads_per_block, column_sum_bytes(), slice_gradients,
           sums_dz.data(), sums_dz_xhat.data(), dy.as<float>(), x.as<float>(), mean.as<float>(), rstd.as<float>(),
           gamma.as<float>(), beta.as<float>(), p, cut);
    launch(stream, "group_norm_backward, totals", totals_blocks, threads_per_block, column_sum_bytes(), channel_totals,
           totals_dz.data(), sums_dz.data(), totals_cut);
    launch(stream, "group_norm_backward, totals", totals_blocks, threads_per_block, column_sum_bytes(), channel_totals,
           totals_dz_xhat.data(), sums_dz_xhat.data(), totals_cut);
    launch(stream, "group_norm_backward, means", blocks_for(p.n * p.groups), threads_per_block, 0, group_means,
           means.data(), totals_dz.data(), totals_dz_xhat.data(), gamma.as<float>(), p);
    launch(stream, "group_norm_backward, parameters", blocks_for(p.channels), threads_per_block, 0,
           accumulate_parameters, dgamma.as<float>(), dbeta.as<float>(), totals_dz.data(), totals_dz_xhat.data(), p);
    launch(stream, "group_norm_backward", blocks, threads_per_block, 0, input_gradient, dx.as<float>(), dy.as<float>(),
           x.as<float>(), mean.as<float>(), rstd.as<float>(), gamma.as<float>(), beta.as<float>(), means.data(), p,
           cut);
}

}  // namespace norm

std::span<const GroupNormVariant> group_norm_rows() {
    static constexpr GroupNormVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<GroupNormParams>, norm::run}};
    return rows;
}
std::span<const GroupNormBackwardVariant> group_norm_backward_rows() {
    static constexpr GroupNormBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<GroupNormParams>, norm::run_backward}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
