// The views of a batch in one pass: every pixel of the patch makes its own displacement, so that nothing of the image's
// size is stored.
#include <cmath>

#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"
#include "kernels/views.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace views {

struct Geometry {
    std::int64_t image[3], patch[3];  // sides (D, H, W)
    double ratio[3], shift;           // an image coordinate i + psi is read at (i + psi) * ratio - shift
    std::int64_t channels;

    constexpr std::int64_t image_pixels() const { return image[0] * image[1] * image[2]; }
    constexpr std::int64_t patch_pixels() const { return patch[0] * patch[1] * patch[2]; }
};

Geometry geometry_of(const CutViewsParams& p) {
    Geometry g{{p.image.d, p.image.h, p.image.w}, {p.patch.d, p.patch.h, p.patch.w}, {1, 1, 1}, 0, p.channels};
    if (p.convention == WarpConvention::reference) {
        g.shift = 0.5;
        for (int axis = 0; axis < 3; ++axis)
            if (g.image[axis] > 1)
                g.ratio[axis] = static_cast<double>(g.image[axis]) / static_cast<double>(g.image[axis] - 1);
    }
    return g;
}

struct Outputs {
    float *moving, *fixed, *field, *mask;
};

// The largest of the block's values, none of them negative, known to thread 0. Every thread has to come here.
__device__ float block_largest(float value, float* scratch) {
    for (int lanes = lanes_per_warp / 2; lanes > 0; lanes /= 2) {
        const float other = shuffle_xor(value, lanes);
        value = value < other ? other : value;
    }
    block_sync();
    if (threadIdx.x % lanes_per_warp == 0) scratch[threadIdx.x / lanes_per_warp] = value;
    block_sync();
    for (int warp = 0; warp < warps_per_block; ++warp) value = value < scratch[warp] ? scratch[warp] : value;
    return value;
}

// One thread per pixel of the patch; blocks_per_draw blocks make one sample. valid, largest: what each block found.
template <int nd>
__global__ void cut(Outputs out, int* valid, float* largest, const float* images, const float* elastic,
                    const ViewDraw* draws, Geometry g, std::int64_t blocks_per_draw) {
    constexpr int first = 3 - nd, corners = 1 << nd;
    Shared shared;
    int* count_scratch = shared.take<int>(warps_per_block);
    float* size_scratch = shared.take<float>(warps_per_block);
    const std::int64_t which = blockIdx.x / blocks_per_draw;
    const std::int64_t p = (blockIdx.x - which * blocks_per_draw) * blockDim.x + threadIdx.x;
    bool inside = false;
    float size = 0;
    if (p < g.patch_pixels()) {
        const ViewDraw& draw = draws[which];
        const float* image = images + draw.sample * g.image_pixels() * g.channels;
        const std::int64_t row = p / g.patch[2], d = row / g.patch[1];
        const std::int64_t at[3] = {d, row - d * g.patch[1], p - row * g.patch[2]};
        const std::int64_t whole[3] = {draw.corner[0] + at[0], draw.corner[1] + at[1], draw.corner[2] + at[2]};
        const std::int64_t from = (whole[0] * g.image[1] + whole[1]) * g.image[2] + whole[2];
        const std::int64_t to = draw.sample * g.patch_pixels() + p;
        const float* waves = elastic ? elastic + (draw.sample * g.image_pixels() + from) * nd : nullptr;
        inside = true;
        bool readable = true;  // some corner lies in the image
        std::int64_t left[nd];
        float fraction[nd];
        for (int a = 0; a < nd; ++a) {
            const int axis = first + a;
            const float psi = view_displacement(draw, axis, whole[0], whole[1], whole[2], waves ? waves[a] : 0.0f);
            out.field[to * nd + a] = psi;
            size = size < std::abs(psi) ? std::abs(psi) : size;
            inside = inside && lands_inside(at[axis], psi, g.patch[axis]);
            const double position = static_cast<double>(whole[axis]) + static_cast<double>(psi);
            const double target = std::fma(position, g.ratio[axis], 0.0) - g.shift;
            // Also false for a point that no integer can hold and for NaN.
            readable = readable && target > -1.0 && target < static_cast<double>(g.image[axis]);
            const double floor = readable ? std::floor(target) : 0.0;
            left[a] = static_cast<std::int64_t>(floor);
            fraction[a] = readable ? static_cast<float>(target - floor) : 0.0f;
        }
        out.mask[to] = inside ? 1.0f : 0.0f;
        for (std::int64_t c = 0; c < g.channels; ++c) {
            float sum = 0;
            for (int k = 0; k < corners && readable; ++k) {
                float weight = 1;
                std::int64_t index = 0;
                bool within = true;
                for (int a = 0; a < nd; ++a) {
                    const int right = k >> (nd - 1 - a) & 1;  // bit nd - 1 - a says left or right along axis a
                    const std::int64_t i = left[a] + right;
                    within = within && i >= 0 && i < g.image[first + a];
                    weight *= right ? fraction[a] : 1.0f - fraction[a];
                    index = index * g.image[first + a] + i;
                }
                if (within) sum = std::fma(weight, image[index * g.channels + c], sum);
            }
            out.fixed[to * g.channels + c] = sum;
            out.moving[to * g.channels + c] = image[from * g.channels + c];
        }
    }
    const int count = block_sum(inside ? 1 : 0, count_scratch);
    size = block_largest(size, size_scratch);
    if (threadIdx.x == 0) {
        valid[blockIdx.x] = count;
        largest[blockIdx.x] = size;
    }
}

// One block per draw.
__global__ void gather_facts(double* facts, const int* valid, const float* largest, std::int64_t blocks_per_draw) {
    Shared shared;
    double* count_scratch = shared.take<double>(warps_per_block);
    float* size_scratch = shared.take<float>(warps_per_block);
    double count = 0;
    float size = 0;
    for (std::int64_t i = threadIdx.x; i < blocks_per_draw; i += blockDim.x) {
        const std::int64_t block = blockIdx.x * blocks_per_draw + i;
        count += static_cast<double>(valid[block]);
        size = size < largest[block] ? largest[block] : size;
    }
    count = block_sum(count, count_scratch);
    size = block_largest(size, size_scratch);
    if (threadIdx.x == 0) {
        facts[2 * blockIdx.x] = count;
        facts[2 * blockIdx.x + 1] = static_cast<double>(size);
    }
}

void run(View moving, View fixed, View field, View mask, View facts, ConstView images, ConstView elastic,
         ConstView draws, const CutViewsParams& p, Stream& stream) {
    const std::int64_t blocks_per_draw = blocks_for(p.patch.pixels());
    const unsigned blocks = blocks_for(p.draws * blocks_per_draw, 1);
    Workspace<int> valid(blocks, stream);
    Workspace<float> largest(blocks, stream);
    launch(stream, "cut_views", blocks, threads_per_block, block_sum_bytes<int>() + block_sum_bytes<float>(),
           p.patch.spatial_dims == 2 ? cut<2> : cut<3>,
           Outputs{moving.as<float>(), fixed.as<float>(), field.as<float>(), mask.as<float>()}, valid.data(),
           largest.data(), images.as<float>(), elastic.as<float>(), records_of<ViewDraw>(draws), geometry_of(p),
           blocks_per_draw);
    launch(stream, "cut_views, facts", blocks_for(p.draws, 1), threads_per_block,
           block_sum_bytes<double>() + block_sum_bytes<float>(), gather_facts, facts.as<double>(), valid.data(),
           largest.data(), blocks_per_draw);
}

}  // namespace views

std::span<const CutViewsVariant> cut_views_rows() {
    static constexpr CutViewsVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<CutViewsParams>, views::run}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
