// One thread per element of the flat buffers, whose tensors need not be told apart.
#include <cmath>

#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"
#include "kernels/optimizer_factors.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace optim {

__global__ void factors(double* out, const double* schedule, const float* loss, const double* sum_of_squares,
                        OptimizerFactorsParams p) {
    make_optimizer_factors(out, schedule, *loss, *sum_of_squares, p);
}

// AdamParams in single precision; differences are taken in double before they are rounded.
struct AdamConstants {
    float beta1, one_minus_beta1, beta2, one_minus_beta2, epsilon, weight_decay;
};

__global__ void adam(float* w, float* m, float* v, const float* dw, const double* of_step, AdamConstants c,
                     std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i >= count || of_step[apply_factor] == 0) return;
    const float gradient_scale = static_cast<float>(of_step[gradient_scale_factor]),
                rate = static_cast<float>(of_step[rate_factor]),
                correction = static_cast<float>(of_step[correction_factor]);
    const float weight = w[i];
    const float g = std::fma(gradient_scale, dw[i], c.weight_decay * weight);
    const float first = std::fma(c.beta1, m[i], c.one_minus_beta1 * g);
    const float second = std::fma(c.beta2, v[i], c.one_minus_beta2 * g * g);
    m[i] = first;
    v[i] = second;
    w[i] = weight - rate * first / (std::sqrt(second * correction) + c.epsilon);
}

__global__ void sgd(float* w, float* buffer, const float* dw, const double* of_step, float momentum, float weight_decay,
                    std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i >= count || of_step[apply_factor] == 0) return;
    const float gradient_scale = static_cast<float>(of_step[gradient_scale_factor]);
    const float weight = w[i];
    const float g = std::fma(gradient_scale, dw[i], weight_decay * weight);
    const float b = of_step[correction_factor] == 1 ? g : std::fma(momentum, buffer[i], g);
    buffer[i] = b;
    w[i] = std::fma(-static_cast<float>(of_step[rate_factor]), b, weight);
}

void run_factors(View out, ConstView schedule, ConstView loss, ConstView sum_of_squares,
                 const OptimizerFactorsParams& p, Stream& stream) {
    launch(stream, "optimizer_factors", 1, 1, 0, factors, out.as<double>(), schedule.as<double>(), loss.as<float>(),
           sum_of_squares.as<double>(), p);
}

void run_adam(View w, View m, View v, ConstView dw, ConstView of_step, const AdamParams& p, Stream& stream) {
    const auto rounded = [](double factor) { return static_cast<float>(factor); };
    const AdamConstants constants{rounded(p.beta1),       rounded(1.0 - p.beta1), rounded(p.beta2),
                                  rounded(1.0 - p.beta2), rounded(p.epsilon),     rounded(p.weight_decay)};
    launch(stream, "adam", blocks_for(p.count), threads_per_block, 0, adam, w.as<float>(), m.as<float>(), v.as<float>(),
           dw.as<float>(), of_step.as<double>(), constants, p.count);
}

void run_sgd(View w, View buffer, ConstView dw, ConstView of_step, const SgdParams& p, Stream& stream) {
    launch(stream, "sgd", blocks_for(p.count), threads_per_block, 0, sgd, w.as<float>(), buffer.as<float>(),
           dw.as<float>(), of_step.as<double>(), static_cast<float>(p.momentum), static_cast<float>(p.weight_decay),
           p.count);
}

}  // namespace optim

std::span<const OptimizerFactorsVariant> optimizer_factors_rows() {
    static constexpr OptimizerFactorsVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<OptimizerFactorsParams>, optim::run_factors}};
    return rows;
}
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
