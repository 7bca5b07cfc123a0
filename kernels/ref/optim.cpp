#include "kernels/optim.h"

#include <cmath>

#include "kernels/optimizer_factors.h"

namespace cover::ref {
namespace {

template <class T>
void factors_run(View factors, ConstView schedule, ConstView loss, ConstView sum_of_squares,
                 const OptimizerFactorsParams& p, Stream&) {
    make_optimizer_factors(factors.as<double>(), schedule.as<double>(), static_cast<double>(*loss.as<T>()),
                           *sum_of_squares.as<double>(), p);
}

template <class T>
void adam_run(View w_view, View m_view, View v_view, ConstView dw_view, ConstView factors, const AdamParams& p,
              Stream&) {
    const double* f = factors.as<double>();
    if (f[apply_factor] == 0) return;
    T *w = w_view.as<T>(), *m = m_view.as<T>(), *v = v_view.as<T>();
    const T* dw = dw_view.as<T>();
    for (std::int64_t i = 0; i < p.count; ++i) {
        const double weight = static_cast<double>(w[i]);
        const double g = f[gradient_scale_factor] * static_cast<double>(dw[i]) + p.weight_decay * weight;
        const double first = p.beta1 * static_cast<double>(m[i]) + (1.0 - p.beta1) * g;
        const double second = p.beta2 * static_cast<double>(v[i]) + (1.0 - p.beta2) * g * g;
        m[i] = static_cast<T>(first);
        v[i] = static_cast<T>(second);
        w[i] = static_cast<T>(weight - f[rate_factor] * first / (std::sqrt(second * f[correction_factor]) + p.epsilon));
    }
}

template <class T>
void sgd_run(View w_view, View buffer_view, ConstView dw_view, ConstView factors, const SgdParams& p, Stream&) {
    const double* f = factors.as<double>();
    if (f[apply_factor] == 0) return;
    T *w = w_view.as<T>(), *buffer = buffer_view.as<T>();
    const T* dw = dw_view.as<T>();
    for (std::int64_t i = 0; i < p.count; ++i) {
        const double weight = static_cast<double>(w[i]);
        const double g = f[gradient_scale_factor] * static_cast<double>(dw[i]) + p.weight_decay * weight;
        const double b = f[correction_factor] == 1 ? g : p.momentum * static_cast<double>(buffer[i]) + g;
        buffer[i] = static_cast<T>(b);
        w[i] = static_cast<T>(weight - f[rate_factor] * b);
    }
}

}  // namespace

std::span<const OptimizerFactorsVariant> optimizer_factors_rows() {
    static constexpr OptimizerFactorsVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<OptimizerFactorsParams>, factors_run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<OptimizerFactorsParams>, factors_run<double>}};
    return rows;
}

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
