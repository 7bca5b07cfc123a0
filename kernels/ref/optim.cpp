#include "kernels/optim.h"

#include <cmath>

namespace cover::ref {
namespace {

template <class T>
void adam_run(View w_view, View m_view, View v_view, ConstView dw_view, const AdamParams& p, Stream&) {
    T *w = w_view.as<T>(), *m = m_view.as<T>(), *v = v_view.as<T>();
    const T* dw = dw_view.as<T>();
    const double step = static_cast<double>(p.step);
    const double m_correction = 1.0 - std::pow(p.beta1, step), v_correction = 1.0 - std::pow(p.beta2, step);
    for (std::int64_t i = 0; i < p.count; ++i) {
        const double weight = static_cast<double>(w[i]);
        const double g = p.gradient_scale * static_cast<double>(dw[i]) + p.weight_decay * weight;
        const double first = p.beta1 * static_cast<double>(m[i]) + (1.0 - p.beta1) * g;
        const double second = p.beta2 * static_cast<double>(v[i]) + (1.0 - p.beta2) * g * g;
        m[i] = static_cast<T>(first);
        v[i] = static_cast<T>(second);
        w[i] = static_cast<T>(weight - p.lr * (first / m_correction) / (std::sqrt(second / v_correction) + p.epsilon));
    }
}

template <class T>
void sgd_run(View w_view, View buffer_view, ConstView dw_view, const SgdParams& p, Stream&) {
    T *w = w_view.as<T>(), *buffer = buffer_view.as<T>();
    const T* dw = dw_view.as<T>();
    for (std::int64_t i = 0; i < p.count; ++i) {
        const double weight = static_cast<double>(w[i]);
        const double g = p.gradient_scale * static_cast<double>(dw[i]) + p.weight_decay * weight;
        const double b = p.step == 1 ? g : p.momentum * static_cast<double>(buffer[i]) + g;
        buffer[i] = static_cast<T>(b);
        w[i] = static_cast<T>(weight - p.lr * b);
    }
}

}  // namespace

std::span<const AdamVariant> adam_rows() {
    static constexpr AdamVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<AdamParams>, adam_run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<AdamParams>, adam_run<double>}};
    return rows;
}

std::span<const SgdVariant> sgd_rows() {
    static constexpr SgdVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<SgdParams>, sgd_run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<SgdParams>, sgd_run<double>}};
    return rows;
}

}  // namespace cover::ref
