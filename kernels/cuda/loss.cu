// The masked losses: sums over slices of a fixed number of pixels, in double, then over the slices.
#include <cmath>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/lanes.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace loss {

constexpr float norm_floor = 1e-12f;
constexpr int rounds = 8;  // pixels that a lane takes part in

// One pixel as one of its lanes sees it: elements begin, begin + step, ... below `end`; none behind the last pixel.
struct Pixel {
    const float *a, *b;
    std::int64_t begin, end;
    Lanes lanes;
};

__device__ Pixel pixel_of(const float* a, const float* b, std::int64_t i, int lane, const LossParams& p,
                          const Lanes& lanes) {
    const std::int64_t end = i < p.mask_count() ? (i + 1) * p.channels : 0;
    return {a, b, i * p.channels + lane, end, lanes};
}

// Both are called by whole warps, and give every lane of the pixel the same number.
struct L1 {
    static __device__ float of(const Pixel& pixel) {
        float sum = 0;
        for (std::int64_t c = pixel.begin; c < pixel.end; c += pixel.lanes.count())
            sum += std::fabs(pixel.b[c] - pixel.a[c]);
        return lane_sum(sum, pixel.lanes);
    }
};

struct Cosine {
    float norm_a, norm_b;  // floored
    bool floored_a, floored_b;
    float value;

    static __device__ Cosine parts_of(const Pixel& pixel) {
        float aa = 0, bb = 0, ab = 0;
        for (std::int64_t c = pixel.begin; c < pixel.end; c += pixel.lanes.count()) {
            aa = std::fma(pixel.a[c], pixel.a[c], aa);
            bb = std::fma(pixel.b[c], pixel.b[c], bb);
            ab = std::fma(pixel.a[c], pixel.b[c], ab);
        }
        const float norm_a = std::sqrt(lane_sum(aa, pixel.lanes)), norm_b = std::sqrt(lane_sum(bb, pixel.lanes));
        Cosine out{norm_a, norm_b, norm_a < norm_floor, norm_b < norm_floor, 0};
        if (out.floored_a) out.norm_a = norm_floor;
        if (out.floored_b) out.norm_b = norm_floor;
        out.value = lane_sum(ab, pixel.lanes) / (out.norm_a * out.norm_b);
        return out;
    }
    static __device__ float of(const Pixel& pixel) { return parts_of(pixel).value; }
};

// For the sum of the mask alone.
struct Nothing {
    static __device__ float of(const Pixel&) { return 0; }
};

// Of a slice of pixels: the sum of mask * value, and of the mask.
struct Partial {
    double masked, mask;
};

std::int64_t slice_of(const Lanes& lanes) { return rounds * std::int64_t{threads_per_block} / lanes.count(); }

template <class Value>
__global__ void sum_slices(Partial* partials, const float* a, const float* b, const float* mask, LossParams p,
                           Lanes lanes) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    const std::int64_t pixels_per_round = threads_per_block / static_cast<unsigned>(lanes.count());
    const std::int64_t first = pixels_per_round * rounds * blockIdx.x + lanes.pixel_of(threadIdx.x);
    const int lane = lanes.lane_of(threadIdx.x);
    double masked = 0, masks = 0;
    for (int round = 0; round < rounds; ++round) {
        const std::int64_t i = first + round * pixels_per_round;
        const bool inside = i < p.mask_count();
        const float value = Value::of(pixel_of(a, b, i, lane, p, lanes));
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

// One thread per element.
__global__ void l1_gradient(float* dprediction, const float* share, const float* prediction, const float* target,
                            const float* mask, LossParams p) {
    const std::int64_t i = global_thread();
    if (i >= p.count()) return;
    const float sign = prediction[i] > target[i] ? 1.0f : prediction[i] < target[i] ? -1.0f : 0.0f;
    dprediction[i] = *share * mask[i / p.channels] * sign;
}

// dcos/da = b / (|a| |b|) - cos * a / |a|^2; the second term is absent where |a| is the constant floor.
__global__ void cosine_gradient(float* da, float* db, const float* share, const float* a, const float* b,
                                const float* mask, LossParams p, Lanes lanes) {
    const std::int64_t i = lanes.pixel_of(global_thread());
    const Pixel pixel = pixel_of(a, b, i, lanes.lane_of(threadIdx.x), p, lanes);
    const Cosine cosine = Cosine::parts_of(pixel);
    if (i >= p.mask_count()) return;
    const float weight = *share * mask[i], cross = weight / (cosine.norm_a * cosine.norm_b);
    const float own_a = cosine.floored_a ? 0 : weight * (cosine.value / (cosine.norm_a * cosine.norm_a));
    const float own_b = cosine.floored_b ? 0 : weight * (cosine.value / (cosine.norm_b * cosine.norm_b));
    for (std::int64_t c = pixel.begin; c < pixel.end; c += lanes.count()) {
        const float x = a[c], y = b[c];
        da[c] = std::fma(-x, own_a, y * cross);
        db[c] = std::fma(-y, own_b, x * cross);
    }
}

template <class Value>
void run_forward(const char* name, View loss, ConstView a, ConstView b, ConstView mask, const LossParams& p,
                 double start, double sign, Stream& stream) {
    const Lanes lanes = lanes_for(p.channels);
    const unsigned blocks = blocks_for(p.mask_count(), slice_of(lanes));
    Workspace<Partial> partials(blocks, stream);
    launch(stream, name, blocks, threads_per_block, block_sum_bytes<double>(), sum_slices<Value>, partials.data(),
           a.as<float>(), b.as<float>(), mask.as<float>(), p, lanes);
    launch(stream, name, 1, threads_per_block, block_sum_bytes<double>(), finish, loss.as<float>(), partials.data(),
           blocks, start, sign);
}

void find_share(Workspace<float>& share, const char* name, ConstView dloss, ConstView mask, const LossParams& p,
                double sign, Stream& stream) {
    const Lanes lanes{0};
    const unsigned blocks = blocks_for(p.mask_count(), slice_of(lanes));
    Workspace<Partial> partials(blocks, stream);
    launch(stream, name, blocks, threads_per_block, block_sum_bytes<double>(), sum_slices<Nothing>, partials.data(),
           nullptr, nullptr, mask.as<float>(), p, lanes);
    launch(stream, name, 1, threads_per_block, block_sum_bytes<double>(), pixel_share, share.data(), dloss.as<float>(),
           partials.data(), blocks, sign);
}

void run_l1(View loss, ConstView prediction, ConstView target, ConstView mask, const LossParams& p, Stream& stream) {
    run_forward<L1>("masked_l1", loss, prediction, target, mask, p, 0.0, 1.0, stream);
}

void run_cosine(View loss, ConstView a, ConstView b, ConstView mask, const LossParams& p, Stream& stream) {
    run_forward<Cosine>("masked_cosine", loss, a, b, mask, p, 1.0, -1.0, stream);
}

void run_l1_backward(View dprediction, ConstView dloss, ConstView prediction, ConstView target, ConstView mask,
                     const LossParams& p, Stream& stream) {
    Workspace<float> share(1, stream);
    find_share(share, "masked_l1_backward, mask", dloss, mask, p, 1.0, stream);
    launch(stream, "masked_l1_backward", blocks_for(p.count()), threads_per_block, 0, l1_gradient,
           dprediction.as<float>(), share.data(), prediction.as<float>(), target.as<float>(), mask.as<float>(), p);
}

void run_cosine_backward(View da, View db, ConstView dloss, ConstView a, ConstView b, ConstView mask,
                         const LossParams& p, Stream& stream) {
    Workspace<float> share(1, stream);
    find_share(share, "masked_cosine_backward, mask", dloss, mask, p, -1.0, stream);
    const Lanes lanes = lanes_for(p.channels);
    launch(stream, "masked_cosine_backward", blocks_for(lanes.threads(p.mask_count())), threads_per_block, 0,
           cosine_gradient, da.as<float>(), db.as<float>(), share.data(), a.as<float>(), b.as<float>(),
           mask.as<float>(), p, lanes);
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
        {"cuda", this_device, DType::float32, Math::exact, always<LossParams>, loss::run_cosine}};
    return rows;
}
std::span<const MaskedCosineBackwardVariant> masked_cosine_backward_rows() {
    static constexpr MaskedCosineBackwardVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<LossParams>, loss::run_cosine_backward}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
