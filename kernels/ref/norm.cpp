#include "kernels/norm.h"

#include <cmath>

namespace cover::ref {
namespace {

// Calls body(index into x, channel) for every element of one group of one sample, in memory order.
template <class Body>
void for_group(const GroupNormParams& p, std::int64_t n, std::int64_t group, const Body& body) {
    const std::int64_t width = p.channels / p.groups;
    for (std::int64_t pixel = n * p.pixels; pixel < (n + 1) * p.pixels; ++pixel)
        for (std::int64_t c = group * width; c < (group + 1) * width; ++c) body(pixel * p.channels + c, c);
}

struct Statistics {
    double mean, rstd;
};

template <class T>
Statistics statistics_of(const T* x, const GroupNormParams& p, std::int64_t n, std::int64_t group) {
    const double count = static_cast<double>(p.pixels * (p.channels / p.groups));
    double sum = 0, squares = 0;
    for_group(p, n, group, [&](std::int64_t i, std::int64_t) { sum += static_cast<double>(x[i]); });
    const double mean = sum / count;
    for_group(p, n, group, [&](std::int64_t i, std::int64_t) {
        const double centred = static_cast<double>(x[i]) - mean;
        squares += centred * centred;
    });
    return {mean, 1.0 / std::sqrt(squares / count + p.epsilon)};
}

template <class T>
void apply_to(T* y, const T* x, const T* gamma, const T* beta, Statistics s, const GroupNormParams& p, std::int64_t n,
              std::int64_t group) {
    for_group(p, n, group, [&](std::int64_t i, std::int64_t c) {
        const double z = (static_cast<double>(x[i]) - s.mean) * s.rstd * static_cast<double>(gamma[c]) +
                         static_cast<double>(beta[c]);
        y[i] = static_cast<T>(z > 0 ? z : z * p.slope);
    });
}

template <class T>
void forward(View y, View mean, View rstd, ConstView x, ConstView gamma, ConstView beta, const GroupNormParams& p,
             Stream& stream) {
    stream.parallel(p.n * p.groups, [&](std::int64_t task) {
        const std::int64_t n = task / p.groups, group = task % p.groups;
        const Statistics s = statistics_of(x.as<T>(), p, n, group);
        apply_to(y.as<T>(), x.as<T>(), gamma.as<T>(), beta.as<T>(), s, p, n, group);
        mean.as<T>()[task] = static_cast<T>(s.mean);
        rstd.as<T>()[task] = static_cast<T>(s.rstd);
    });
}

template <class T>
void statistics(View mean, View rstd, ConstView x, const GroupNormParams& p, Stream& stream) {
    stream.parallel(p.n * p.groups, [&](std::int64_t task) {
        const Statistics s = statistics_of(x.as<T>(), p, task / p.groups, task % p.groups);
        mean.as<T>()[task] = static_cast<T>(s.mean);
        rstd.as<T>()[task] = static_cast<T>(s.rstd);
    });
}

template <class T>
void apply(View y, ConstView x, ConstView mean, ConstView rstd, ConstView gamma, ConstView beta,
           const GroupNormParams& p, Stream& stream) {
    stream.parallel(p.n * p.groups, [&](std::int64_t task) {
        const Statistics s{static_cast<double>(mean.as<T>()[task]), static_cast<double>(rstd.as<T>()[task])};
        apply_to(y.as<T>(), x.as<T>(), gamma.as<T>(), beta.as<T>(), s, p, task / p.groups, task % p.groups);
    });
}

// dz = dy * leaky_relu'(z),  z = xhat * gamma + beta
// dx = rstd * (dz * gamma - mean(dz * gamma) - xhat * mean(dz * gamma * xhat))       means over the group
template <class T>
void backward(View dx_view, View dgamma_view, View dbeta_view, ConstView dy_view, ConstView x_view, ConstView mean_view,
              ConstView rstd_view, ConstView gamma_view, ConstView beta_view, const GroupNormParams& p,
              Stream& stream) {
    T *dx = dx_view.as<T>(), *dgamma = dgamma_view.as<T>(), *dbeta = dbeta_view.as<T>();
    const T *dy = dy_view.as<T>(), *x = x_view.as<T>(), *gamma = gamma_view.as<T>(), *beta = beta_view.as<T>();
    const T *means = mean_view.as<T>(), *rstds = rstd_view.as<T>();
    const std::int64_t width = p.channels / p.groups;
    const double count = static_cast<double>(p.pixels * width);

    struct Element {
        double xhat, dz;
    };
    const auto element = [&](std::int64_t statistics, std::int64_t i, std::int64_t c) -> Element {
        const double xhat = (static_cast<double>(x[i]) - static_cast<double>(means[statistics])) *
                            static_cast<double>(rstds[statistics]);
        const double z = xhat * static_cast<double>(gamma[c]) + static_cast<double>(beta[c]);
        return {xhat, static_cast<double>(dy[i]) * (z > 0 ? 1.0 : p.slope)};
    };

    stream.parallel(p.n * p.groups, [&](std::int64_t task) {
        const std::int64_t n = task / p.groups, group = task % p.groups;
        double sum = 0, sum_xhat = 0;
        for_group(p, n, group, [&](std::int64_t i, std::int64_t c) {
            const Element e = element(task, i, c);
            sum += e.dz * static_cast<double>(gamma[c]);
            sum_xhat += e.dz * static_cast<double>(gamma[c]) * e.xhat;
        });
        for_group(p, n, group, [&](std::int64_t i, std::int64_t c) {
            const Element e = element(task, i, c);
            dx[i] = static_cast<T>(static_cast<double>(rstds[task]) *
                                   (e.dz * static_cast<double>(gamma[c]) - sum / count - e.xhat * (sum_xhat / count)));
        });
    });
    stream.parallel(p.channels, [&](std::int64_t c) {
        double sum_gamma = 0, sum_beta = 0;
        for (std::int64_t pixel = 0; pixel < p.n * p.pixels; ++pixel) {
            const Element e = element(pixel / p.pixels * p.groups + c / width, pixel * p.channels + c, c);
            sum_gamma += e.dz * e.xhat;
            sum_beta += e.dz;
        }
        dgamma[c] = static_cast<T>(static_cast<double>(dgamma[c]) + sum_gamma);
        dbeta[c] = static_cast<T>(static_cast<double>(dbeta[c]) + sum_beta);
    });
}

}  // namespace

std::span<const GroupNormVariant> group_norm_rows() {
    static constexpr GroupNormVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<GroupNormParams>, forward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<GroupNormParams>, forward<double>}};
    return rows;
}

std::span<const GroupNormStatisticsVariant> group_norm_statistics_rows() {
    static constexpr GroupNormStatisticsVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<GroupNormParams>, statistics<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<GroupNormParams>, statistics<double>}};
    return rows;
}

std::span<const GroupNormApplyVariant> group_norm_apply_rows() {
    static constexpr GroupNormApplyVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<GroupNormParams>, apply<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<GroupNormParams>, apply<double>}};
    return rows;
}

std::span<const GroupNormBackwardVariant> group_norm_backward_rows() {
    static constexpr GroupNormBackwardVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<GroupNormParams>, backward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<GroupNormParams>, backward<double>}};
    return rows;
}

}  // namespace cover::ref
