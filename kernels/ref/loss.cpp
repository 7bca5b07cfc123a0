#include "kernels/loss.h"

#include <algorithm>
#include <cmath>

namespace cover::ref {
namespace {

constexpr double norm_floor = 1e-12;

template <class T>
double sum_of(const T* mask, std::int64_t count) {
    double sum = 0;
    for (std::int64_t i = 0; i < count; ++i) sum += static_cast<double>(mask[i]);
    return sum;
}

template <class T>
void l1_forward(View loss, ConstView prediction_view, ConstView target_view, ConstView mask_view, const LossParams& p,
                Stream&) {
    const T *prediction = prediction_view.as<T>(), *target = target_view.as<T>(), *mask = mask_view.as<T>();
    double sum = 0;
    for (std::int64_t i = 0; i < p.mask_count(); ++i) {
        double norm = 0;
        for (std::int64_t c = i * p.channels; c < (i + 1) * p.channels; ++c)
            norm += std::abs(static_cast<double>(target[c]) - static_cast<double>(prediction[c]));
        sum += static_cast<double>(mask[i]) * norm;
    }
    *loss.as<T>() = static_cast<T>(sum / sum_of(mask, p.mask_count()));
}

template <class T>
void l1_backward(View dprediction_view, ConstView dloss, ConstView prediction_view, ConstView target_view,
                 ConstView mask_view, const LossParams& p, Stream&) {
    T* dprediction = dprediction_view.as<T>();
    const T *prediction = prediction_view.as<T>(), *target = target_view.as<T>(), *mask = mask_view.as<T>();
    const double mask_sum = sum_of(mask, p.mask_count());
    for (std::int64_t i = 0; i < p.mask_count(); ++i) {
        const double weight = static_cast<double>(*dloss.as<T>()) * static_cast<double>(mask[i]) / mask_sum;
        for (std::int64_t c = i * p.channels; c < (i + 1) * p.channels; ++c) {
            const double sign = prediction[c] > target[c] ? 1.0 : prediction[c] < target[c] ? -1.0 : 0.0;
            dprediction[c] = static_cast<T>(weight * sign);
        }
    }
}

struct Cosine {
    double norm_a = 0, norm_b = 0;  // floored
    bool floored_a = false, floored_b = false;
    double value = 0;
};

template <class T>
Cosine cosine_of(const T* a, const T* b, std::int64_t channels) {
    double aa = 0, bb = 0, ab = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
        const double x = static_cast<double>(a[c]), y = static_cast<double>(b[c]);
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    Cosine out;
    out.floored_a = std::sqrt(aa) < norm_floor;
    out.floored_b = std::sqrt(bb) < norm_floor;
    out.norm_a = out.floored_a ? norm_floor : std::sqrt(aa);
    out.norm_b = out.floored_b ? norm_floor : std::sqrt(bb);
    out.value = ab / (out.norm_a * out.norm_b);
    return out;
}

template <class T>
void cosine_forward(View loss, ConstView a, ConstView b, ConstView mask_view, const LossParams& p, Stream&) {
    const T* mask = mask_view.as<T>();
    double sum = 0;
    for (std::int64_t i = 0; i < p.mask_count(); ++i)
        sum += static_cast<double>(mask[i]) *
               cosine_of(a.as<T>() + i * p.channels, b.as<T>() + i * p.channels, p.channels).value;
    *loss.as<T>() = static_cast<T>(1.0 - sum / sum_of(mask, p.mask_count()));
}

// dcos/da = b / (|a| |b|) - cos * a / |a|^2; the second term is absent where |a| is the constant floor.
template <class T>
void cosine_backward(View da_view, View db_view, ConstView dloss, ConstView a_view, ConstView b_view,
                     ConstView mask_view, const LossParams& p, Stream&) {
    T *da = da_view.as<T>(), *db = db_view.as<T>();
    const T *a = a_view.as<T>(), *b = b_view.as<T>(), *mask = mask_view.as<T>();
    const double mask_sum = sum_of(mask, p.mask_count());
    for (std::int64_t i = 0; i < p.mask_count(); ++i) {
        const double weight = -static_cast<double>(*dloss.as<T>()) * static_cast<double>(mask[i]) / mask_sum;
        const Cosine cosine = cosine_of(a + i * p.channels, b + i * p.channels, p.channels);
        const double cross = 1.0 / (cosine.norm_a * cosine.norm_b);
        const double own_a = cosine.floored_a ? 0.0 : cosine.value / (cosine.norm_a * cosine.norm_a);
        const double own_b = cosine.floored_b ? 0.0 : cosine.value / (cosine.norm_b * cosine.norm_b);
        for (std::int64_t c = i * p.channels; c < (i + 1) * p.channels; ++c) {
            const double x = static_cast<double>(a[c]), y = static_cast<double>(b[c]);
            da[c] = static_cast<T>(weight * (y * cross - x * own_a));
            db[c] = static_cast<T>(weight * (x * cross - y * own_b));
        }
    }
}

}  // namespace

std::span<const MaskedL1Variant> masked_l1_rows() {
    static constexpr MaskedL1Variant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<LossParams>, l1_forward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<LossParams>, l1_forward<double>}};
    return rows;
}

std::span<const MaskedL1BackwardVariant> masked_l1_backward_rows() {
    static constexpr MaskedL1BackwardVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<LossParams>, l1_backward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<LossParams>, l1_backward<double>}};
    return rows;
}

std::span<const MaskedCosineVariant> masked_cosine_rows() {
    static constexpr MaskedCosineVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<LossParams>, cosine_forward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<LossParams>, cosine_forward<double>}};
    return rows;
}

std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_rows() {
    static constexpr MaskedCosineBackwardVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<LossParams>, cosine_backward<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<LossParams>, cosine_backward<double>}};
    return rows;
}

}  // namespace cover::ref
