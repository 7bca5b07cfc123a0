// One thread per element of the flat buffers, whose tensors need not be told apart.
#include <cmath>

#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace optim {

// AdamParams in single precision; differences and powers are taken in double before they are rounded.
struct AdamFactors {
    float beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inverse_v_correction, epsilon, weight_decay,
        gradient_scale;
};

AdamFactors factors_of(const AdamParams& p) {
    const double step = static_cast<double>(p.step);
    const auto rounded = [](double factor) { return static_cast<float>(factor); };
    return {rounded(p.beta1),
            rounded(1.0 - p.beta1),
            rounded(p.beta2),
            rounded(1.0 - p.beta2),
            rounded(p.lr / (1.0 - std::pow(p.beta1, step))),
            rounded(1.0 / (1.0 - std::pow(p.beta2, step))),
            rounded(p.epsilon),
            rounded(p.weight_decay),
            rounded(p.gradient_scale)};
}

__global__ void adam(float* w, float* m, float* v, const float* dw, AdamFactors f, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i >= count) return;
    const float weight = w[i];
    const float g = std::fma(f.gradient_scale, dw[i], f.weight_decay * weight);
    const float first = std::fma(f.beta1, m[i], f.one_minus_beta1 * g);
    const float second = std::fma(f.beta2, v[i], f.one_minus_beta2 * g * g);
    m[i] = first;
    v[i] = second;
    w[i] = weight - f.step_size * first / (std::sqrt(second * f.inverse_v_correction) + f.epsilon);
}

struct SgdFactors {
    float lr, momentum, weight_decay, gradient_scale;
    bool first_step;
};

__global__ void sgd(float* w, float* buffer, const float* dw, SgdFactors f, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i >= count) return;
    const float weight = w[i];
    const float g = std::fma(f.gradient_scale, dw[i], f.weight_decay * weight);
    const float b = f.first_step ? g : std::fma(f.momentum, buffer[i], g);
    buffer[i] = b;
    w[i] = std::fma(-f.lr, b, weight);
}

void run_adam(View w, View m, View v, ConstView dw, const AdamParams& p, Stream& stream) {
    launch(stream, "adam", blocks_for(p.count), threads_per_block, 0, adam, w.as<float>(), m.as<float>(), v.as<float>(),
           dw.as<float>(), factors_of(p), p.count);
}

void run_sgd(View w, View buffer, ConstView dw, const SgdParams& p, Stream& stream) {
    const SgdFactors factors{static_cast<float>(p.lr), static_cast<float>(p.momentum),
                             static_cast<float>(p.weight_decay), static_cast<float>(p.gradient_scale), p.step == 1};
    launch(stream, "sgd", blocks_for(p.count), threads_per_block, 0, sgd, w.as<float>(), buffer.as<float>(),
           dw.as<float>(), factors, p.count);
}

}  // namespace optim

std::span<const AdamVariant> adam_rows() {
    static constexpr AdamVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<AdamParams>, optim::run_adam}};
    return rows;
}
std::span<const SgdVariant> sgd_rows() {
    static constexpr SgdVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<SgdParams>, optim::run_sgd}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
