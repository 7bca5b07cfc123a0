// The masked losses: sums over slices of a fixed number of pixels, in double, then over the slices.
#include <cmath>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/packs.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace loss {

constexpr float norm_floor = 1e-12f;
constexpr int rounds = 8;  // pixels that a lane takes part in

// One pixel as one of its lanes sees it: packs of `width` elements at begin, begin + step, ... below `end`; none behind
// the last pixel.
template <class T, int width>
struct Pixel {
    const T *a, *b;
    std::int64_t begin, end;
    Lanes lanes;

    __device__ Pixel(const T* a_, const T* b_, std::int64_t i, int lane, const LossParams& p, const Lanes& lanes_)
        : a(a_),
          b(b_),
          begin(i * p.channels + lane * width),
          end(i < p.mask_count() ? (i + 1) * p.channels : 0),
          lanes(lanes_) {}

    // Calls body(first element, values of a, values of b) for each pack.
    template <class Body>
    __device__ void for_packs(const Body& body) const {
        for (std::int64_t c = begin; c < end; c += lanes.count() * width) {
            float of_a[width], of_b[width];
            load(of_a, a + c);
            load(of_b, b + c);
            body(c, of_a, of_b);
        }
    }
};

// Both are called by whole warps, and give every lane of the pixel the same number.
struct L1 {
    template <class T, int width>
    static __device__ float of(const Pixel<T, width>& pixel) {
        float sum = 0;
        pixel.for_packs([&](std::int64_t, const auto& a, const auto& b) {
            for (int k = 0; k < width; ++k) sum += std::fabs(b[k] - a[k]);
        });
        return lane_sum(sum, pixel.lanes);
    }
};

struct Cosine {
    float norm_a, norm_b;  // floored
    bool floored_a, floored_b;
    float value;

    template <class T, int width>
    static __device__ Cosine parts_of(const Pixel<T, width>& pixel) {
        float aa = 0, bb = 0, ab = 0;
        pixel.for_packs([&](std::int64_t, const auto& a, const auto& b) {
            for (int k = 0; k < width; ++k) {
                aa = std::fma(a[k], a[k], aa);
                bb = std::fma(b[k], b[k], bb);
                ab = std::fma(a[k], b[k], ab);
            }
        });
        const float norm_a = std::sqrt(lane_sum(aa, pixel.lanes)), norm_b = std::sqrt(lane_sum(bb, pixel.lanes));
        Cosine out{norm_a, norm_b, norm_a < norm_floor, norm_b < norm_floor, 0};
        if (out.floored_a) out.norm_a = norm_floor;
        if (out.floored_b) out.norm_b = norm_floor;
        out.value = lane_sum(ab, pixel.lanes) / (out.norm_a * out.norm_b);
        return out;
    }
    template <class T, int width>
    static __device__ float of(const Pixel<T, width>& pixel) {
        return parts_of(pixel).value;
    }
};

// For the sum of the mask alone.
struct Nothing {
    template <class T, int width>
    static __device__ float of(const Pixel<T, width>&) {
        return 0;
    }
};

// Of a slice of pixels: the sum of mask * value, and of the mask.
struct Partial {
    double masked, mask;
};

std::int64_t slice_of(const Lanes& lanes) { return rounds * std::int64_t{threads_per_block} / lanes.count(); }

template <class Value, class T, int width>
__global__ void sum_slices(Partial* partials, const T* a, const T* b, const float* mask, LossParams p, Lanes lanes) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    const std::int64_t pixels_per_round = threads_per_block / static_cast<unsigned>(lanes.count());
    const std::int64_t first = pixels_per_round * rounds * blockIdx.x + lanes.pixel_of(threadIdx.x);
    const int lane = lanes.lane_of(threadIdx.x);
    double masked = 0, masks = 0;
    for (int round = 0; round < rounds; ++round) {
        const std::int64_t i = first + round * pixels_per_round;
        const bool inside = i < p.mask_count();
        const float value = Value::of(Pixel<T, width>(a, b, i, lane, p, lanes));
        if (!inside || lane > 0) continue;
        masked += static_cast<double>(mask[i]) * static_cast<double>(value);
        masks += static_cast<double>(mask[i]);
    }
    masked = block_sum(masked, scratch);
    masks = block_sum(masks, scratch);
    if (threadIdx.x == 0) partials[blockIdx.x] = {masked, masks};
}

__device__ Partial total_of(const Partial* partials, std::int64_t count) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    Partial total{0, 0};
    for (std::int64_t i = threadIdx.x; i < count; i += threads_per_block) {
        total.masked += partials[i].masked;
        total.mask += partials[i].mask;
    }
    total.masked = block_sum(total.masked, scratch);
    total.mask = block_sum(total.mask, scratch);
    return total;
}

// loss = start + sign * masked / mask; one block.
__global__ void finish(float* loss, const Partial* partials, std::int64_t count, double start, double sign) {
    const Partial total = total_of(partials, count);
    if (threadIdx.x == 0) *loss = static_cast<float>(start + sign * (total.masked / total.mask));
}

// The weight of a pixel in the gradient, where the mask is 1; one block.
__global__ void pixel_share(float* share, const float* dloss, const Partial* partials, std::int64_t count,
                            double sign) {
    const Partial total = total_of(partials, count);
    if (threadIdx.x == 0) *share = static_cast<float>(sign * static_cast<double>(*dloss) / total.mask);
}

// One thread per pixel.
__global__ void l1_gradient(float* dprediction, const float* share, const float* prediction, const float* target,
                            const float* mask, LossParams p) {
    const std::int64_t i = global_thread();
    if (i >= p.mask_count()) return;
    const float weight = *share * mask[i];
    for (std::int64_t at = i * p.channels; at < (i + 1) * p.channels; ++at) {
        const float sign = prediction[at] > target[at] ? 1.0f : prediction[at] < target[at] ? -1.0f : 0.0f;
        dprediction[at] = weight * sign;
    }
}

// dcos/da = b / (|a| |b|) - cos * a / |a|^2; the second term is absent where |a| is the constant floor.
template <class T, int width>
__global__ void cosine_gradient(T* da, T* db, const float* share, const T* a, const T* b, const float* mask,
                                LossParams p, Lanes lanes) {
    const std::int64_t i = lanes.pixel_of(global_thread());
    const Pixel<T, width> pixel(a, b, i, lanes.lane_of(threadIdx.x), p, lanes);
    const Cosine cosine = Cosine::parts_of(pixel);
    if (i >= p.mask_count()) return;
    const float weight = *share * mask[i], cross = weight / (cosine.norm_a * cosine.norm_b);
    const float own_a = cosine.floored_a ? 0 : weight * (cosine.value / (cosine.norm_a * cosine.norm_a));
    const float own_b = cosine.floored_b ? 0 : weight * (cosine.value / (cosine.norm_b * cosine.norm_b));
    pixel.for_packs([&](std::int64_t c, auto& x, auto& y) {
        float to_a[width], to_b[width];
        for (int k = 0; k < width; ++k) {
            to_a[k] = std::fma(-x[k], own_a, y[k] * cross);
            to_b[k] = std::fma(-y[k], own_b, x[k] * cross);
        }
        store(da + c, to_a);
        store(db + c, to_b);
    });
}

Lanes lanes_of(const LossParams& p, int width) { return lanes_for(p.channels, width > 1 ? width : 4); }

template <class Value, class T>
void run_forward(const char* name, View loss, ConstView a, ConstView b, ConstView mask, const LossParams& p,
                 double start, double sign, Stream& stream) {
    with_width<T>(keeps_alignment<T>(p.channels, a, b), [&](auto width) {
        const Lanes lanes = lanes_of(p, width());
        const unsigned blocks = blocks_for(p.mask_count(), slice_of(lanes));
        Workspace<Partial> partials(blocks, stream);
        launch(stream, name, blocks, threads_per_block, block_sum_bytes<double>(), sum_slices<Value, T, width()>,
               partials.data(), a.as<T>(), b.as<T>(), mask.as<float>(), p, lanes);
        launch(stream, name, 1, threads_per_block, block_sum_bytes<double>(), finish, loss.as<float>(), partials.data(),
               blocks, start, sign);
    });
}

void find_share(Workspace<float>& share, const char* name, ConstView dloss, ConstView mask, const LossParams& p,
                double sign, Stream& stream) {
    const Lanes lanes{0};
    const unsigned blocks = blocks_for(p.mask_count(), slice_of(lanes));
    Workspace<Partial> partials(blocks, stream);
    launch(stream, name, blocks, threads_per_block, block_sum_bytes<double>(), sum_slices<Nothing, float, 1>,
           partials.data(), nullptr, nullptr, mask.as<float>(), p, lanes);
    launch(stream, name, 1, threads_per_block, block_sum_bytes<double>(), pixel_share, share.data(), dloss.as<float>(),
           partials.data(), blocks, sign);
}

void run_l1(View loss, ConstView prediction, ConstView target, ConstView mask, const LossParams& p, Stream& stream) {
    run_forward<L1, float>("masked_l1", loss, prediction, target, mask, p, 0.0, 1.0, stream);
}

template <class T>
void run_cosine(View loss, ConstView a, ConstView b, ConstView mask, const LossParams& p, Stream& stream) {
    run_forward<Cosine, T>("masked_cosine", loss, a, b, mask, p, 1.0, -1.0, stream);
}

void run_l1_backward(View dprediction, ConstView dloss, ConstView prediction, ConstView target, ConstView mask,
                     const LossParams& p, Stream& stream) {
    Workspace<float> share(1, stream);
    find_share(share, "masked_l1_backward, mask", dloss, mask, p, 1.0, stream);
    launch(stream, "masked_l1_backward", blocks_for(p.mask_count()), threads_per_block, 0, l1_gradient,
           dprediction.as<float>(), share.data(), prediction.as<float>(), target.as<float>(), mask.as<float>(), p);
}

template <class T>
void run_cosine_backward(View da, View db, ConstView dloss, ConstView a, ConstView b, ConstView mask,
                         const LossParams& p, Stream& stream) {
    Workspace<float> share(1, stream);
    find_share(share, "masked_cosine_backward, mask", dloss, mask, p, -1.0, stream);
    with_width<T>(keeps_alignment<T>(p.channels, da, db, a, b), [&](auto width) {
        const Lanes lanes = lanes_of(p, width());
        launch(stream, "masked_cosine_backward", blocks_for(lanes.threads(p.mask_count())), threads_per_block, 0,
               cosine_gradient<T, width()>, da.as<T>(), db.as<T>(), share.data(), a.as<T>(), b.as<T>(),
               mask.as<float>(), p, lanes);
    });
}

}  // namespace loss

std::span<const MaskedL1Variant> masked_l1_rows() {
    static constexpr MaskedL1Variant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<LossParams>, loss::run_l1}};
    return rows;
}
std::span<const MaskedL1BackwardVariant> masked_l1_backward_rows() {
    static constexpr MaskedL1BackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<LossParams>, loss::run_l1_backward}};
    return rows;
}
std::span<const MaskedCosineVariant> masked_cosine_rows() {
    static constexpr MaskedCosineVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<LossParams>, loss::run_cosine<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<LossParams>, loss::run_cosine<bfloat16>}};
    return rows;
}
std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_rows() {
    static constexpr MaskedCosineBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<LossParams>, loss::run_cosine_backward<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<LossParams>, loss::run_cosine_backward<bfloat16>}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
