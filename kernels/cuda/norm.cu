// Group norm. Passes over x keep sums per (sample, slice of pixels, channel), which are added over slices and channels
// in index order; slices depend on the shape alone. Statistics, gamma, beta and their gradients are float32.
#include <cmath>

#include "kernels/cuda/norm/channels.cuh"
#include "kernels/cuda/norm/cut.cuh"
#include "kernels/cuda/norm/statistics.cuh"
#include "kernels/cuda/op_rows.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace norm {

constexpr int loads_at_once = 4;  // pixels that a thread has under way

// A thread's share of its slice: sums of what is left of its elements without the first of them, so that little cancels
// even if x lies far from zero.
template <class T, int width>
__device__ Moments moments_of(const T* x, const Place& at, const Cut& cut) {
    if (at.begin >= at.end) return {0, 0};
    x += (at.n * cut.length + at.begin) * cut.channels + at.c;
    const std::int64_t step = cut.rows * cut.channels;
    const float shift = static_cast<float>(*x);
    float sum = 0, squares = 0;
    for (std::int64_t pixel = at.begin; pixel < at.end; pixel += loads_at_once * cut.rows, x += loads_at_once * step) {
        float values[loads_at_once][width];
        for (int k = 0; k < loads_at_once; ++k)
            if (pixel + k * cut.rows < at.end) load(values[k], x + k * step);
        for (int k = 0; k < loads_at_once; ++k) {
            if (pixel + k * cut.rows >= at.end) continue;
            for (const float value : values[k]) {
                const float shifted = value - shift;
                sum += shifted;
                squares = std::fma(shifted, shifted, squares);
            }
        }
    }
    const double total = static_cast<double>(sum), count = static_cast<double>(at.pixels(cut) * width);
    const double about_mean = static_cast<double>(squares) - total * (total / count);
    return {static_cast<double>(shift) + total / count, about_mean > 0 ? about_mean : about_mean < 0 ? 0 : about_mean};
}

// slices: (N, slices, units).
template <class T, int width>
__global__ void slice_moments(Moments* slices, const T* x, Cut cut) {
    Shared shared;
    double* scratch = shared.take<double>(threads_per_block);
    const Place at = place_of<width>(cut, blockIdx.x);
    const Moments own = moments_of<T, width>(x, at, cut);
    const double count = static_cast<double>(at.pixels(cut) * width);
    const double mean =
        column_sum(count * own.mean, scratch, at, cut) / static_cast<double>(cut.length_of(at.slice) * width);
    const double step = own.mean - mean;
    const double sum = column_sum(own.squares + count * step * step, scratch, at, cut);
    const unsigned unit = at.tile * cut.columns + at.column;
    if (at.row > 0 || unit >= cut.units) return;
    slices[(at.n * cut.slices + at.slice) * cut.units + unit] = {mean, sum};
}

template <int width>
__device__ Channels<width> channels_of(const float* mean, const float* rstd, const float* gamma, const float* beta,
                                       const GroupNormParams& p, const Place& at) {
    const std::int64_t group = at.n * p.groups + at.c / (p.channels / p.groups);
    Channels<width> channels{mean[group], rstd[group], static_cast<float>(p.slope), {}, {}};
    for (int k = 0; k < width; ++k) {
        channels.gamma[k] = gamma[at.c + k];
        channels.beta[k] = beta[at.c + k];
    }
    return channels;
}

template <class T, int width>
__global__ void normalise(T* y, const float* mean, const float* rstd, const T* x, const float* gamma, const float* beta,
                          GroupNormParams p, Cut cut) {
    const Place at = place_of<width>(cut, block_from_end());
    if (at.begin >= at.end) return;
    const Channels<width> channels = channels_of<width>(mean, rstd, gamma, beta, p, at);
    const std::int64_t first = (at.n * cut.length + at.begin) * cut.channels + at.c, step = cut.rows * cut.channels;
    x += first;
    y += first;
    for (std::int64_t pixel = at.begin; pixel < at.end; pixel += loads_at_once * cut.rows) {
        float values[loads_at_once][width];
        for (int k = 0; k < loads_at_once; ++k)
            if (pixel + k * cut.rows < at.end) load(values[k], x + k * step);
        for (int k = 0; k < loads_at_once; ++k) {
            if (pixel + k * cut.rows >= at.end) continue;
            for (int c = 0; c < width; ++c) values[k][c] = channels.activated(channels.normalised(values[k][c]), c);
            store(y + k * step, values[k]);
        }
        x += loads_at_once * step;
        y += loads_at_once * step;
    }
}

// slices: (N, slices, C).
template <class T, int width>
__global__ void slice_gradients(Sums* slices, const T* dy, const T* x, const float* mean, const float* rstd,
                                const float* gamma, const float* beta, GroupNormParams p, Cut cut) {
    Shared shared;
    const Place at = place_of<width>(cut, blockIdx.x);
    float sums_dz[width] = {}, sums_dz_xhat[width] = {};
    if (at.begin < at.end) {
        const Channels<width> channels = channels_of<width>(mean, rstd, gamma, beta, p, at);
        const std::int64_t first = (at.n * cut.length + at.begin) * cut.channels + at.c, step = cut.rows * cut.channels;
        const T *cotangent = dy + first, *value = x + first;
#pragma unroll 2
        for (std::int64_t pixel = at.begin; pixel < at.end; pixel += cut.rows) {
            float dys[width], xs[width];
            load(dys, cotangent);
            load(xs, value);
            for (int c = 0; c < width; ++c) {
                const float xhat = channels.normalised(xs[c]), dz = channels.cotangent(dys[c], xhat, c);
                sums_dz[c] += dz;
                sums_dz_xhat[c] = std::fma(dz, xhat, sums_dz_xhat[c]);
            }
            cotangent += step;
            value += step;
        }
    }
    Sums* tile = slices + (at.n * cut.slices + at.slice) * cut.channels + std::int64_t{at.tile} * cut.columns * width;
    store_channel_sums<width>(tile, sums_dz, sums_dz_xhat, shared, at, cut);
}

// The means over a group of dz * gamma and of dz * gamma * xhat.
struct GroupMeans {
    float dz_gamma, dz_gamma_xhat;
};

// One block per (sample, group); totals: (N, C). Some threads to a channel, each over every so many slices.
__global__ void group_totals(Sums* totals, GroupMeans* means, const Sums* slices, const float* gamma, GroupNormParams p,
                             unsigned slice_count) {
    Shared shared;
    Sums* parts = shared.take<Sums>(threads_per_block);
    double* scratch = shared.take<double>(warps_per_block);
    const unsigned channels = static_cast<unsigned>(p.channels), groups = static_cast<unsigned>(p.groups);
    const unsigned width = channels / groups, columns = width < threads_per_block ? width : threads_per_block;
    const unsigned n = blockIdx.x / groups, first = (blockIdx.x - n * groups) * width;
    const unsigned rows = threads_per_block / columns, row = threadIdx.x / columns, column = threadIdx.x % columns;
    Sums weighted{0, 0};
    for (unsigned tile = 0; tile < width; tile += columns) {
        const unsigned c = first + tile + column;
        const bool inside = row < rows && tile + column < width;
        Sums sums{0, 0};
        for (unsigned slice = row; inside && slice < slice_count; slice += rows)
            sums += slices[(std::int64_t{n} * slice_count + slice) * channels + c];
        block_sync();  // the parts of the tile before have been read
        parts[threadIdx.x] = sums;
        block_sync();
        if (row > 0 || !inside) continue;
        for (unsigned other = 1; other < rows; ++other) sums += parts[other * columns + column];
        totals[std::int64_t{n} * channels + c] = sums;
        const double factor = static_cast<double>(gamma[c]);
        weighted += {factor * sums.dz, factor * sums.dz_xhat};
    }
    const double count = static_cast<double>(p.pixels) * width;
    const double dz = block_sum(weighted.dz, scratch) / count, dz_xhat = block_sum(weighted.dz_xhat, scratch) / count;
    if (threadIdx.x == 0) means[blockIdx.x] = {static_cast<float>(dz), static_cast<float>(dz_xhat)};
}

// One warp per channel: each lane adds every 32nd sample.
__global__ void accumulate_parameters(float* dgamma, float* dbeta, const Sums* totals, GroupNormParams p) {
    const std::int64_t c = global_thread() / lanes_per_warp;
    const int lane = static_cast<int>(threadIdx.x) % lanes_per_warp;
    Sums sums{0, 0};
    for (std::int64_t n = lane; c < p.channels && n < p.n; n += lanes_per_warp) sums += totals[n * p.channels + c];
    for (int other = lanes_per_warp / 2; other > 0; other /= 2) {
        sums.dz += shuffle_xor(sums.dz, other);
        sums.dz_xhat += shuffle_xor(sums.dz_xhat, other);
    }
    if (lane > 0 || c >= p.channels) return;
    dgamma[c] = static_cast<float>(static_cast<double>(dgamma[c]) + sums.dz_xhat);
    dbeta[c] = static_cast<float>(static_cast<double>(dbeta[c]) + sums.dz);
}

template <class T, int width>
__global__ void input_gradient(T* dx, const T* dy, const T* x, const float* mean, const float* rstd, const float* gamma,
                               const float* beta, const GroupMeans* means, GroupNormParams p, Cut cut) {
    constexpr int at_once = loads_at_once / 2;
    const Place at = place_of<width>(cut, block_from_end());
    if (at.begin >= at.end) return;
    const Channels<width> channels = channels_of<width>(mean, rstd, gamma, beta, p, at);
    const GroupMeans group = means[at.n * p.groups + at.c / (p.channels / p.groups)];
    const std::int64_t first = (at.n * cut.length + at.begin) * cut.channels + at.c, step = cut.rows * cut.channels;
    dx += first;
    dy += first;
    x += first;
    for (std::int64_t pixel = at.begin; pixel < at.end; pixel += at_once * cut.rows) {
        float dys[at_once][width], xs[at_once][width];
        for (int k = 0; k < at_once; ++k) {
            if (pixel + k * cut.rows >= at.end) continue;
            load(dys[k], dy + k * step);
            load(xs[k], x + k * step);
        }
        for (int k = 0; k < at_once; ++k) {
            if (pixel + k * cut.rows >= at.end) continue;
            for (int c = 0; c < width; ++c) {
                const float xhat = channels.normalised(xs[k][c]), dz = channels.cotangent(dys[k][c], xhat, c);
                const float centred = std::fma(dz, channels.gamma[c], -group.dz_gamma);
                xs[k][c] = channels.rstd * std::fma(-xhat, group.dz_gamma_xhat, centred);
            }
            store(dx + k * step, xs[k]);
        }
        dx += at_once * step;
        dy += at_once * step;
        x += at_once * step;
    }
}

// Channels of one access have to lie in one group.
template <class T, class... Views>
bool is_wide(const GroupNormParams& p, const Views&... views) {
    return keeps_alignment<T>(p.channels, views...) && p.channels / p.groups % wide<T> == 0;
}

template <class T>
void run_statistics(View mean, View rstd, ConstView x, const GroupNormParams& p, Stream& stream) {
    with_width<T>(is_wide<T>(p, x), [&](auto width) {
        const Cut cut = cut_of(p.channels, p.pixels, width());
        Workspace<Moments> slices(p.n * cut.slices * cut.units, stream);
        launch(stream, "group_norm, slices", blocks_for(cut.blocks(p.n), 1), threads_per_block, column_sum_bytes(),
               slice_moments<T, width()>, slices.data(), x.as<T>(), cut);
        launch(stream, "group_norm, groups", blocks_for(p.n * p.groups, 1), threads_per_block,
               block_sum_bytes<double>(), group_statistics<Cut>, mean.as<float>(), rstd.as<float>(), slices.data(), p,
               cut);
    });
}

template <class T>
void run_apply(View y, ConstView x, ConstView mean, ConstView rstd, ConstView gamma, ConstView beta,
               const GroupNormParams& p, Stream& stream) {
    with_width<T>(is_wide<T>(p, y, x), [&](auto width) {
        const Cut cut = cut_of(p.channels, p.pixels, width());
        launch(stream, "group_norm", blocks_for(cut.blocks(p.n), 1), threads_per_block, 0, normalise<T, width()>,
               y.as<T>(), mean.as<float>(), rstd.as<float>(), x.as<T>(), gamma.as<float>(), beta.as<float>(), p, cut);
    });
}

template <class T>
void run(View y, View mean, View rstd, ConstView x, ConstView gamma, ConstView beta, const GroupNormParams& p,
         Stream& stream) {
    run_statistics<T>(mean, rstd, x, p, stream);
    run_apply<T>(y, x, mean, rstd, gamma, beta, p, stream);
}

template <class T>
void run_backward(View dx, View dgamma, View dbeta, ConstView dy, ConstView x, ConstView mean, ConstView rstd,
                  ConstView gamma, ConstView beta, const GroupNormParams& p, Stream& stream) {
    with_width<T>(is_wide<T>(p, dx, dy, x), [&](auto width) {
        const Cut cut = cut_of(p.channels, p.pixels, width());
        const unsigned blocks = blocks_for(cut.blocks(p.n), 1);
        Workspace<Sums> slices(p.n * cut.slices * p.channels, stream), totals(p.n * p.channels, stream);
        Workspace<GroupMeans> means(p.n * p.groups, stream);
        launch(stream, "group_norm_backward, slices", blocks, threads_per_block, channel_sums_bytes<width()>(),
               slice_gradients<T, width()>, slices.data(), dy.as<T>(), x.as<T>(), mean.as<float>(), rstd.as<float>(),
               gamma.as<float>(), beta.as<float>(), p, cut);
        launch(stream, "group_norm_backward, totals", blocks_for(p.n * p.groups, 1), threads_per_block,
               Shared::shared_bytes_of<Sums>(threads_per_block) + block_sum_bytes<double>(), group_totals,
               totals.data(), means.data(), slices.data(), gamma.as<float>(), p, cut.slices);
        launch(stream, "group_norm_backward, parameters", blocks_for(p.channels, warps_per_block), threads_per_block, 0,
               accumulate_parameters, dgamma.as<float>(), dbeta.as<float>(), totals.data(), p);
        launch(stream, "group_norm_backward", blocks, threads_per_block, 0, input_gradient<T, width()>, dx.as<T>(),
               dy.as<T>(), x.as<T>(), mean.as<float>(), rstd.as<float>(), gamma.as<float>(), beta.as<float>(),
               means.data(), p, cut);
    });
}

}  // namespace norm

std::span<const GroupNormVariant> group_norm_rows() {
    static constexpr GroupNormVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<GroupNormParams>, norm::run<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<GroupNormParams>, norm::run<bfloat16>}};
    return rows;
}
std::span<const GroupNormStatisticsVariant> group_norm_statistics_rows() {
    static constexpr GroupNormStatisticsVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<GroupNormParams>, norm::run_statistics<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<GroupNormParams>, norm::run_statistics<bfloat16>}};
    return rows;
}
std::span<const GroupNormApplyVariant> group_norm_apply_rows() {
    static constexpr GroupNormApplyVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<GroupNormParams>, norm::run_apply<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<GroupNormParams>, norm::run_apply<bfloat16>}};
    return rows;
}
std::span<const GroupNormBackwardVariant> group_norm_backward_rows() {
    static constexpr GroupNormBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<GroupNormParams>, norm::run_backward<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<GroupNormParams>, norm::run_backward<bfloat16>}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
