// MoV in plain loops: the window of one pixel and head at a time.
#include "kernels/local_attention.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace cover::ref {
namespace {

constexpr double outside_logit = -1000;

struct Neighbour {
    std::array<double, 3> offset{};  // (D,H,W)
    std::int64_t pixel = -1;         // -1 where it lies outside
    double probability = 0;
};

// The window around pixel (d, h, w), the first spatial axis slowest.
std::vector<Neighbour> window_of(const LocalAttentionParams& p, std::int64_t d, std::int64_t h, std::int64_t w) {
    const std::int64_t radius = p.radius, depth_radius = p.grid.spatial_dims == 3 ? radius : 0;
    std::vector<Neighbour> window;
    window.reserve(static_cast<std::size_t>(p.window()));
    for (std::int64_t od = -depth_radius; od <= depth_radius; ++od)
        for (std::int64_t oh = -radius; oh <= radius; ++oh)
            for (std::int64_t ow = -radius; ow <= radius; ++ow) {
                const std::int64_t kd = d + od, kh = h + oh, kw = w + ow;
                const bool inside = kd >= 0 && kd < p.grid.d && kh >= 0 && kh < p.grid.h && kw >= 0 && kw < p.grid.w;
                window.push_back({{static_cast<double>(od), static_cast<double>(oh), static_cast<double>(ow)},
                                  inside ? (kd * p.grid.h + kh) * p.grid.w + kw : -1,
                                  0.0});
            }
    return window;
}

// q_pixel: the channels of the pixel; k: those of the whole sample (D,H,W,C).
template <class T>
void softmax(std::vector<Neighbour>& window, const T* q_pixel, const T* k, int head, const LocalAttentionParams& p) {
    double largest = outside_logit;
    bool first = true;
    for (Neighbour& neighbour : window) {
        double logit = outside_logit;
        if (neighbour.pixel >= 0) {
            double dot = 0;
            for (std::int64_t c = head; c < p.channels(); c += p.heads)
                dot += static_cast<double>(q_pixel[c]) * static_cast<double>(k[neighbour.pixel * p.channels() + c]);
            logit = dot / std::sqrt(static_cast<double>(p.head_dim));
        }
        neighbour.probability = logit;
        largest = first ? logit : std::max(largest, logit);
        first = false;
    }
    double sum = 0;
    for (Neighbour& neighbour : window) sum += neighbour.probability = std::exp(neighbour.probability - largest);
    for (Neighbour& neighbour : window) neighbour.probability /= sum;
}

template <class T>
void forward(View y_view, ConstView q_view, ConstView k_view, const LocalAttentionParams& p, Stream& stream) {
    const std::int64_t pixels = p.grid.pixels(), channels = p.channels();
    const int nd = p.grid.spatial_dims;
    T* y = y_view.as<T>();
    const T *q = q_view.as<T>(), *k = k_view.as<T>();
    stream.parallel(p.n * p.grid.d * p.grid.h, [&](std::int64_t row) {
        const std::int64_t h = row % p.grid.h, d = row / p.grid.h % p.grid.d, n = row / (p.grid.h * p.grid.d);
        for (std::int64_t w = 0; w < p.grid.w; ++w) {
            std::vector<Neighbour> window = window_of(p, d, h, w);
            const std::int64_t pixel = row * p.grid.w + w;
            std::array<double, 3> vector{};  // (D,H,W)
            for (int head = 0; head < p.heads; ++head) {
                softmax(window, q + pixel * channels, k + n * pixels * channels, head, p);
                for (const Neighbour& neighbour : window)
                    for (std::size_t axis = 0; axis < 3; ++axis)
                        vector[axis] += neighbour.probability * neighbour.offset[axis];
            }
            for (int axis = 0; axis < nd; ++axis)
                y[pixel * nd + axis] = static_cast<T>(vector[static_cast<std::size_t>(axis + 3 - nd)] / p.heads);
        }
    });
}

// With s_o = (dy . o) / heads:  dlogit_o = probability_o * (s_o - sum over o' of probability_o' * s_o').
// A task owns one head of one sample, so that it may scatter dk in pixel order.
template <class T>
void backward(View dq_view, View dk_view, ConstView dy_view, ConstView q_view, ConstView k_view,
              const LocalAttentionParams& p, Stream& stream) {
    const std::int64_t pixels = p.grid.pixels(), channels = p.channels();
    const int nd = p.grid.spatial_dims;
    const double logit_scale = 1.0 / std::sqrt(static_cast<double>(p.head_dim));
    stream.parallel(p.n * p.heads, [&](std::int64_t task) {
        const int head = static_cast<int>(task % p.heads);
        const std::int64_t n = task / p.heads;
        T *dq = dq_view.as<T>() + n * pixels * channels, *dk = dk_view.as<T>() + n * pixels * channels;
        const T *q = q_view.as<T>() + n * pixels * channels, *k = k_view.as<T>() + n * pixels * channels;
        const T* dy = dy_view.as<T>() + n * pixels * nd;
        std::vector<double> dk_sums(static_cast<std::size_t>(pixels * p.head_dim), 0.0);  // (D,H,W,head_dim)
        for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
            std::vector<Neighbour> window =
                window_of(p, pixel / (p.grid.h * p.grid.w), pixel / p.grid.w % p.grid.h, pixel % p.grid.w);
            softmax(window, q + pixel * channels, k, head, p);
            std::vector<double> slopes;
            double mean_slope = 0;
            for (const Neighbour& neighbour : window) {
                double slope = 0;
                for (int axis = 0; axis < nd; ++axis)
                    slope += static_cast<double>(dy[pixel * nd + axis]) *
                             neighbour.offset[static_cast<std::size_t>(axis + 3 - nd)];
                slopes.push_back(slope / p.heads);
                mean_slope += neighbour.probability * slopes.back();
            }
            std::vector<double> dq_sums(static_cast<std::size_t>(p.head_dim), 0.0);
            for (std::size_t o = 0; o < window.size(); ++o) {
                const std::int64_t other = window[o].pixel;
                if (other < 0) continue;
                const double dlogit = window[o].probability * (slopes[o] - mean_slope) * logit_scale;
                for (std::int64_t feature = 0; feature < p.head_dim; ++feature) {
                    const std::int64_t c = feature * p.heads + head;
                    dq_sums[static_cast<std::size_t>(feature)] += dlogit * static_cast<double>(k[other * channels + c]);
                    dk_sums[static_cast<std::size_t>(other * p.head_dim + feature)] +=
                        dlogit * static_cast<double>(q[pixel * channels + c]);
                }
            }
            for (std::int64_t feature = 0; feature < p.head_dim; ++feature)
                dq[pixel * channels + feature * p.heads + head] =
                    static_cast<T>(dq_sums[static_cast<std::size_t>(feature)]);
        }
        for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
            for (std::int64_t feature = 0; feature < p.head_dim; ++feature)
                dk[pixel * channels + feature * p.heads + head] =
                    static_cast<T>(dk_sums[static_cast<std::size_t>(pixel * p.head_dim + feature)]);
    });
}

}  // namespace

std::span<const LocalAttentionVariant> local_attention_rows() {
    static constexpr LocalAttentionVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<LocalAttentionParams>, forward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<LocalAttentionParams>, forward<double>}};
    return rows;
}

std::span<const LocalAttentionBackwardVariant> local_attention_backward_rows() {
    static constexpr LocalAttentionBackwardVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<LocalAttentionParams>, backward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<LocalAttentionParams>, backward<double>}};
    return rows;
}

}  // namespace cover::ref
