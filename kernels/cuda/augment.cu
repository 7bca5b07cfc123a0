// What changes the pixels of a view. Where a page of kernels/augment.h promises the same bits on every device, sums and
// products are rounded one by one: fma(a, b, 0) is a product that no compiler merges with the sum behind it.
#include <cmath>

#include "kernels/augment.h"
#include "kernels/cuda/block_sum.h"
#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/runtime.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace augment {

// Blocks of threads that go through the samples one after the other, `per_sample` for each.
struct SampleBlocks {
    std::int64_t per_sample, count;
    std::int64_t items;  // of a sample, one for each thread
};

SampleBlocks sample_blocks(std::int64_t n, std::int64_t items) {
    const std::int64_t per_sample = blocks_for(items);
    return {per_sample, blocks_for(n * per_sample, 1), items};
}

// The thread's sample, and its item there.
struct Place {
    std::int64_t sample, item;
};
__device__ Place place_in(const SampleBlocks& blocks) {
    const std::int64_t sample = blockIdx.x / blocks.per_sample;
    return {sample, (blockIdx.x - sample * blocks.per_sample) * blockDim.x + threadIdx.x};
}

// One thread per element, so that the whole warp writes one row; a block of four numbers is made four times.
__global__ void fill_with_noise(float* y, const NoiseDraw* draws, std::int64_t first, SampleBlocks blocks) {
    const Place at = place_in(blocks);
    if (at.item >= blocks.items) return;
    const std::uint64_t index = static_cast<std::uint64_t>(at.item + first);
    const PhiloxBlock words = draws[at.sample].stream.block(static_cast<std::uint32_t>(index / 4));
    const unsigned lane = static_cast<unsigned>(index % 4);
    // No array is indexed by what only the thread knows: it would live in memory.
    const std::uint32_t word = lane == 0 ? words[0] : lane == 1 ? words[1] : lane == 2 ? words[2] : words[3];
    y[at.sample * blocks.items + at.item] = draws[at.sample].size * std::fma(2.0f, uniform_of(word), -1.0f);
}

void run_uniform_noise(View y, ConstView draws, const NoiseParams& p, Stream& stream) {
    const SampleBlocks blocks = sample_blocks(p.n, p.elements);
    launch(stream, "uniform_noise", static_cast<unsigned>(blocks.count), threads_per_block, 0, fill_with_noise,
           y.as<float>(), records_of<NoiseDraw>(draws), p.first, blocks);
}

// One thread per block of the stream: four elements.
__global__ void add_normals(float* x, const NoiseDraw* draws, std::int64_t elements, SampleBlocks blocks) {
    const Place at = place_in(blocks);
    if (at.item >= blocks.items) return;
    const std::array<double, 4> values = normals(draws[at.sample].stream.block(static_cast<std::uint32_t>(at.item)));
    float* sample = x + at.sample * elements;
    for (int j = 0; j < 4; ++j) {
        const std::int64_t i = 4 * at.item + j;
        if (i < elements)
            sample[i] += std::fma(draws[at.sample].size, static_cast<float>(values[static_cast<unsigned>(j)]), 0.0f);
    }
}

void run_add_noise(View x, ConstView draws, const NoiseParams& p, Stream& stream) {
    const SampleBlocks blocks = sample_blocks(p.n, (p.elements + 3) / 4);
    launch(stream, "add_noise", static_cast<unsigned>(blocks.count), threads_per_block, 0, add_normals, x.as<float>(),
           records_of<NoiseDraw>(draws), p.elements, blocks);
}

// One thread per element. `stride`: elements between neighbours along the axis.
__global__ void blur_axis(float* y, const float* x, const double* weights, std::int64_t radius, bool reflects,
                          std::int64_t side, std::int64_t stride, SampleBlocks blocks) {
    const Place at = place_in(blocks);
    if (at.item >= blocks.items) return;
    const std::int64_t i = at.item / stride % side;
    const float* line = x + at.sample * blocks.items + at.item - i * stride;
    const double* weight = weights + at.sample * (2 * radius + 1) + radius;
    double sum = 0;
    for (std::int64_t k = -radius; k <= radius; ++k) {
        std::int64_t j = i + k;
        if (j < 0 || j >= side) {
            if (!reflects) continue;
            j = mirrored(j, side);
        }
        sum += std::fma(weight[k], static_cast<double>(line[j * stride]), 0.0);
    }
    y[at.sample * blocks.items + at.item] = static_cast<float>(sum);
}

void run_gaussian_blur(View x, ConstView weights, const GaussianBlurParams& p, Stream& stream) {
    if (p.radius == 0) return;
    const int nd = p.grid.spatial_dims;
    const std::int64_t sides[3] = {p.grid.d, p.grid.h, p.grid.w};
    const std::int64_t strides[3] = {p.grid.h * p.grid.w * p.channels, p.grid.w * p.channels, p.channels};
    const SampleBlocks blocks = sample_blocks(p.n, p.grid.pixels() * p.channels);
    Workspace<float> one(p.count(), stream), two(nd == 3 ? p.count() : 0, stream);
    float* const stations[] = {x.as<float>(), one.data(), nd == 3 ? two.data() : x.as<float>(), x.as<float>()};
    for (int pass = 0; pass < nd; ++pass) {
        const int axis = 3 - nd + pass;
        launch(stream, "gaussian_blur", static_cast<unsigned>(blocks.count), threads_per_block, 0, blur_axis,
               stations[pass + 1], stations[pass], weights.as<double>(), p.radius, p.border == Border::reflect,
               sides[axis], strides[axis], blocks);
    }
}

constexpr std::int64_t elements_per_block = 4096;

__global__ void sum_slices(double* partials, const float* x, std::int64_t elements, std::int64_t slices) {
    Shared shared;
    double* scratch = shared.take<double>(warps_per_block);
    const std::int64_t sample = blockIdx.x / slices, begin = (blockIdx.x - sample * slices) * elements_per_block;
    const std::int64_t end = begin + elements_per_block < elements ? begin + elements_per_block : elements;
    double sum = 0;
    for (std::int64_t i = begin + threadIdx.x; i < end; i += threads_per_block)
        sum += static_cast<double>(x[sample * elements + i]);
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

// Each block adds its sample's partial sums up anew, all in the same order.
__global__ void change_slices(float* x, const ContrastDraw* draws, const double* partials, std::int64_t elements,
                              std::int64_t slices) {
    Shared shared;
    const std::int64_t sample = blockIdx.x / slices, begin = (blockIdx.x - sample * slices) * elements_per_block;
    const std::int64_t end = begin + elements_per_block < elements ? begin + elements_per_block : elements;
    const double sum = block_sum_of(partials + sample * slices, slices, 1, shared.take<double>(warps_per_block));
    const float mean = static_cast<float>(sum / static_cast<double>(elements));
    const ContrastDraw draw = draws[sample];
    for (std::int64_t i = begin + threadIdx.x; i < end; i += threads_per_block) {
        float& value = x[sample * elements + i];
        value = std::fma(value - mean, draw.contrast, 0.0f) + mean + draw.brightness;
    }
}

void run_change_contrast(View x, ConstView draws, const ContrastParams& p, Stream& stream) {
    const std::int64_t slices = blocks_for(p.elements, elements_per_block);
    const unsigned blocks = blocks_for(p.n * slices, 1);
    Workspace<double> partials(blocks, stream);
    launch(stream, "change_contrast, sums", blocks, threads_per_block, block_sum_bytes<double>(), sum_slices,
           partials.data(), x.as<float>(), p.elements, slices);
    launch(stream, "change_contrast", blocks, threads_per_block, block_sum_bytes<double>(), change_slices,
           x.as<float>(), records_of<ContrastDraw>(draws), partials.data(), p.elements, slices);
}

// One thread per pixel, which belongs to the last block that holds it.
__global__ void paint(float* x, const BlockDraw* draws, std::int64_t height, std::int64_t width, std::int64_t channels,
                      std::int64_t blocks_per_sample, SampleBlocks blocks) {
    const Place at = place_in(blocks);
    if (at.item >= blocks.items) return;
    const std::int64_t row = at.item / width, d = row / height, h = row - d * height, w = at.item - row * width;
    for (std::int64_t b = blocks_per_sample - 1; b >= 0; --b) {
        const BlockDraw& draw = draws[at.sample * blocks_per_sample + b];
        const std::int64_t i = d - draw.corner[0], j = h - draw.corner[1], k = w - draw.corner[2];
        if (i < 0 || i >= draw.side[0] || j < 0 || j >= draw.side[1] || k < 0 || k >= draw.side[2]) continue;
        const std::uint64_t index = static_cast<std::uint64_t>(draw.first + (i * draw.side[1] + j) * draw.side[2] + k);
        const PhiloxBlock words = draw.stream.block(static_cast<std::uint32_t>(index / 4));
        const unsigned lane = static_cast<unsigned>(index % 4);
        const std::uint32_t word = lane == 0 ? words[0] : lane == 1 ? words[1] : lane == 2 ? words[2] : words[3];
        for (std::int64_t c = 0; c < channels; ++c)
            x[(at.sample * blocks.items + at.item) * channels + c] = uniform_of(word);
        return;
    }
}

void run_fill_blocks(View x, ConstView draws, const FillBlocksParams& p, Stream& stream) {
    const SampleBlocks blocks = sample_blocks(p.n, p.grid.pixels());
    launch(stream, "fill_blocks", static_cast<unsigned>(blocks.count), threads_per_block, 0, paint, x.as<float>(),
           records_of<BlockDraw>(draws), p.grid.h, p.grid.w, p.channels, p.blocks, blocks);
}

}  // namespace augment

std::span<const UniformNoiseVariant> uniform_noise_rows() {
    static constexpr UniformNoiseVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<NoiseParams>, augment::run_uniform_noise}};
    return rows;
}
std::span<const AddNoiseVariant> add_noise_rows() {
    static constexpr AddNoiseVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<NoiseParams>, augment::run_add_noise}};
    return rows;
}
std::span<const GaussianBlurVariant> gaussian_blur_rows() {
    static constexpr GaussianBlurVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<GaussianBlurParams>, augment::run_gaussian_blur}};
    return rows;
}
std::span<const ChangeContrastVariant> change_contrast_rows() {
    static constexpr ChangeContrastVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ContrastParams>, augment::run_change_contrast}};
    return rows;
}
std::span<const FillBlocksVariant> fill_blocks_rows() {
    static constexpr FillBlocksVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<FillBlocksParams>, augment::run_fill_blocks}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
