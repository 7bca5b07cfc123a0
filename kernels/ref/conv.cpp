// Convolution in plain loops. Every output row (n, d, h) is one task, summed in double in the order tap, channel.
#include "kernels/conv.h"

#include <algorithm>

namespace cover::ref {
namespace {

// y[n,p,o] = bias[o] + sum over t, i of x[n, p + t - pad, i] * weight[t,i,o]; bias may be null.
template <class T, class W>
void correlate(T* y, const T* x, const W* weight, const T* bias, std::int64_t n, const Grid& grid, int kernel,
               std::int64_t c_in, std::int64_t c_out, Stream& stream) {
    const std::int64_t pad = kernel / 2, depth_pad = grid.spatial_dims == 3 ? pad : 0;
    stream.parallel(n * grid.d * grid.h, [&](std::int64_t task) {
        const std::int64_t h = task % grid.h, d = task / grid.h % grid.d, sample = task / (grid.h * grid.d);
        std::vector<double> sums(static_cast<std::size_t>(grid.w * c_out), 0.0);  // (W,Cout)
        if (bias)
            for (std::int64_t w = 0; w < grid.w; ++w)
                for (std::int64_t o = 0; o < c_out; ++o)
                    sums[static_cast<std::size_t>(w * c_out + o)] = static_cast<double>(bias[o]);
        const W* tap_weight = weight;  // (Cin,Cout) of one tap
        for (std::int64_t td = -depth_pad; td <= depth_pad; ++td)
            for (std::int64_t th = -pad; th <= pad; ++th)
                for (std::int64_t tw = -pad; tw <= pad; ++tw, tap_weight += c_in * c_out) {
                    const std::int64_t xd = d + td, xh = h + th;
                    if (xd < 0 || xd >= grid.d || xh < 0 || xh >= grid.h) continue;
                    const T* x_row = x + ((sample * grid.d + xd) * grid.h + xh) * grid.w * c_in;  // (W,Cin)
                    const std::int64_t first = std::max<std::int64_t>(0, -tw), last = std::min(grid.w, grid.w - tw);
                    for (std::int64_t w = first; w < last; ++w) {
                        double* sum = sums.data() + w * c_out;
                        for (std::int64_t i = 0; i < c_in; ++i) {
                            const double value = static_cast<double>(x_row[(w + tw) * c_in + i]);
                            const W* row = tap_weight + i * c_out;
                            for (std::int64_t o = 0; o < c_out; ++o) sum[o] += value * static_cast<double>(row[o]);
                        }
                    }
                }
        T* y_row = y + task * grid.w * c_out;  // (W,Cout)
        for (std::int64_t j = 0; j < grid.w * c_out; ++j) y_row[j] = static_cast<T>(sums[static_cast<std::size_t>(j)]);
    });
}

template <class T>
void forward(View y, ConstView x, ConstView weight, ConstView bias, const ConvParams& p, Stream& stream) {
    correlate(y.as<T>(), x.as<T>(), weight.as<T>(), bias.as<T>(), p.n, p.grid, p.kernel, p.c_in, p.c_out, stream);
}

// dx[n,p,i] = sum over t, o of dy[n, p - t + pad, o] * weight[t,i,o]: the same sum with the taps in reverse order and
// the weights transposed.
template <class T>
void backward_data(View dx, ConstView dy, ConstView weight, const ConvParams& p, Stream& stream) {
    const T* w = weight.as<T>();  // (taps,Cin,Cout)
    const std::int64_t taps = p.taps();
    std::vector<double> reversed(static_cast<std::size_t>(p.weight_count()));  // (taps,Cout,Cin)
    stream.parallel(taps, [&](std::int64_t t) {
        for (std::int64_t i = 0; i < p.c_in; ++i)
            for (std::int64_t o = 0; o < p.c_out; ++o)
                reversed[static_cast<std::size_t>(((taps - 1 - t) * p.c_out + o) * p.c_in + i)] =
                    static_cast<double>(w[(t * p.c_in + i) * p.c_out + o]);
    });
    correlate<T, double>(dx.as<T>(), dy.as<T>(), reversed.data(), nullptr, p.n, p.grid, p.kernel, p.c_out, p.c_in,
                         stream);
}

// dweight[t,i,o] += sum over n, p of x[n, p + t - pad, i] * dy[n,p,o]; one task owns (t, i). The last task owns dbias.
template <class T>
void backward_weight(View dweight, View dbias, ConstView dy_view, ConstView x_view, const ConvParams& p,
                     Stream& stream) {
    const T *dy = dy_view.as<T>(), *x = x_view.as<T>();
    T *dw = dweight.as<T>(), *db = dbias.as<T>();
    const Grid& grid = p.grid;
    const std::int64_t side = p.kernel, pad = side / 2, depth_pad = p.kernel_depth() / 2;
    stream.parallel(p.taps() * p.c_in + 1, [&](std::int64_t task) {
        std::vector<double> sums(static_cast<std::size_t>(p.c_out), 0.0);
        double* sum = sums.data();
        T* out = db;
        if (task == p.taps() * p.c_in) {
            for (std::int64_t pixel = 0; pixel < p.n * grid.pixels(); ++pixel)
                for (std::int64_t o = 0; o < p.c_out; ++o) sum[o] += static_cast<double>(dy[pixel * p.c_out + o]);
        } else {
            out = dw + task * p.c_out;
            const std::int64_t i = task % p.c_in, tap = task / p.c_in;
            const std::int64_t td = tap / (side * side) - depth_pad, th = tap / side % side - pad,
                               tw = tap % side - pad;
            for (std::int64_t row = 0; row < p.n * grid.d * grid.h; ++row) {
                const std::int64_t xd = row / grid.h % grid.d + td, xh = row % grid.h + th;
                if (xd < 0 || xd >= grid.d || xh < 0 || xh >= grid.h) continue;
                const T* dy_row = dy + row * grid.w * p.c_out;                        // (W,Cout)
                const T* x_row = x + (row + td * grid.h + th) * grid.w * p.c_in + i;  // (W,Cin), channel i
                for (std::int64_t w = std::max<std::int64_t>(0, -tw); w < std::min(grid.w, grid.w - tw); ++w) {
                    const double value = static_cast<double>(x_row[(w + tw) * p.c_in]);
                    const T* dy_pixel = dy_row + w * p.c_out;
                    for (std::int64_t o = 0; o < p.c_out; ++o) sum[o] += value * static_cast<double>(dy_pixel[o]);
                }
            }
        }
        for (std::int64_t o = 0; o < p.c_out; ++o) out[o] = static_cast<T>(static_cast<double>(out[o]) + sum[o]);
    });
}

}  // namespace

std::span<const ConvVariant> conv_rows() {
    static constexpr ConvVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ConvParams>, forward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ConvParams>, forward<double>}};
    return rows;
}

std::span<const ConvBackwardDataVariant> conv_backward_data_rows() {
    static constexpr ConvBackwardDataVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ConvParams>, backward_data<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ConvParams>, backward_data<double>}};
    return rows;
}

std::span<const ConvBackwardWeightVariant> conv_backward_weight_rows() {
    static constexpr ConvBackwardWeightVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ConvParams>, backward_weight<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ConvParams>, backward_weight<double>}};
    return rows;
}

}  // namespace cover::ref
