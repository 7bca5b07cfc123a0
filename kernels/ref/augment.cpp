#include "kernels/augment.h"

#include <algorithm>
#include <vector>

namespace cover::ref {
namespace {

constexpr std::int64_t task_elements = 8192;  // a multiple of four: a block of random numbers lies in one task

// Calls body(sample, begin, end) for pieces of the elements of every sample.
template <class Body>
void for_pieces(std::int64_t n, std::int64_t elements, Stream& stream, const Body& body) {
    const std::int64_t pieces = (elements + task_elements - 1) / task_elements;
    stream.parallel(n * pieces, [&](std::int64_t task) {
        const std::int64_t begin = task % pieces * task_elements;
        body(task / pieces, begin, std::min(begin + task_elements, elements));
    });
}

template <class T>
void run_uniform_noise(View y_view, ConstView draws, const NoiseParams& p, Stream& stream) {
    for_pieces(p.n, p.elements, stream, [&](std::int64_t n, std::int64_t begin, std::int64_t end) {
        const NoiseDraw& draw = records_of<NoiseDraw>(draws)[n];
        T* y = y_view.as<T>() + n * p.elements;
        for (std::int64_t i = begin; i < end; ++i) {
            const auto index = static_cast<std::uint64_t>(i + p.first);
            const float u = uniform_of(draw.stream.block(static_cast<std::uint32_t>(index / 4))[index % 4]);
            y[i] = static_cast<T>(draw.size * (2 * u - 1));
        }
    });
}

template <class T>
void run_add_noise(View x_view, ConstView draws, const NoiseParams& p, Stream& stream) {
    for_pieces(p.n, p.elements, stream, [&](std::int64_t n, std::int64_t begin, std::int64_t end) {
        const NoiseDraw& draw = records_of<NoiseDraw>(draws)[n];
        T* x = x_view.as<T>() + n * p.elements;
        for (std::int64_t i = begin; i < end; i += 4) {
            const auto values = normals(draw.stream.block(static_cast<std::uint32_t>(i / 4)));
            for (std::int64_t j = i; j < std::min(i + 4, end); ++j)
                x[j] += static_cast<T>(draw.size) * static_cast<T>(values[static_cast<std::size_t>(j - i)]);
        }
    });
}

template <class T>
void blur_line(T* start, std::int64_t stride, std::int64_t side, const double* weights, std::int64_t radius,
               Border border, std::vector<double>& line) {
    for (std::int64_t i = 0; i < side; ++i) line[static_cast<std::size_t>(i)] = static_cast<double>(start[i * stride]);
    for (std::int64_t i = 0; i < side; ++i) {
        double sum = 0;
        for (std::int64_t k = -radius; k <= radius; ++k) {
            const std::int64_t j = border == Border::reflect ? mirrored(i + k, side) : i + k;
            if (j < 0 || j >= side) continue;
            sum += weights[k + radius] * line[static_cast<std::size_t>(j)];
        }
        start[i * stride] = static_cast<T>(sum);
    }
}

template <class T>
void run_gaussian_blur(View x_view, ConstView weights_view, const GaussianBlurParams& p, Stream& stream) {
    const std::int64_t sides[3] = {p.grid.d, p.grid.h, p.grid.w}, sample = p.grid.pixels() * p.channels;
    const std::int64_t strides[3] = {p.grid.h * p.grid.w * p.channels, p.grid.w * p.channels, p.channels};
    for (int axis = 3 - p.grid.spatial_dims; axis < 3; ++axis) {
        const std::int64_t side = sides[axis], stride = strides[axis], lines = sample / side;
        const std::int64_t at_once = std::max<std::int64_t>(1, task_elements / side),
                           tasks = (lines + at_once - 1) / at_once;
        stream.parallel(p.n * tasks, [&](std::int64_t task) {
            const double* weights = weights_view.as<double>() + task / tasks * p.taps();
            std::int64_t radius = p.radius;  // without the zeros at both ends
            while (radius > 0 && weights[0] == 0 && weights[2 * radius] == 0) {
                ++weights;
                --radius;
            }
            if (radius == 0) return;
            T* x = x_view.as<T>() + task / tasks * sample;
            std::vector<double> line(static_cast<std::size_t>(side));
            const std::int64_t begin = task % tasks * at_once;
            // Line l starts at the element whose coordinate on `axis` is zero.
            for (std::int64_t l = begin; l < std::min(begin + at_once, lines); ++l)
                blur_line(x + l / stride * stride * side + l % stride, stride, side, weights, radius, p.border, line);
        });
    }
}

template <class T>
void run_change_contrast(View x_view, ConstView draws, const ContrastParams& p, Stream& stream) {
    stream.parallel(p.n, [&](std::int64_t n) {
        const ContrastDraw& draw = records_of<ContrastDraw>(draws)[n];
        T* x = x_view.as<T>() + n * p.elements;
        double sum = 0;
        for (std::int64_t i = 0; i < p.elements; ++i) sum += static_cast<double>(x[i]);
        const T mean = static_cast<T>(sum / static_cast<double>(p.elements));
        const T contrast = static_cast<T>(draw.contrast), brightness = static_cast<T>(draw.brightness);
        for (std::int64_t i = 0; i < p.elements; ++i) x[i] = (x[i] - mean) * contrast + mean + brightness;
    });
}

template <class T>
void run_fill_blocks(View x_view, ConstView draws, const FillBlocksParams& p, Stream& stream) {
    stream.parallel(p.n, [&](std::int64_t n) {
        T* x = x_view.as<T>() + n * p.grid.pixels() * p.channels;
        for (std::int64_t b = 0; b < p.blocks; ++b) {
            const BlockDraw& draw = records_of<BlockDraw>(draws)[n * p.blocks + b];
            auto index = static_cast<std::uint64_t>(draw.first);
            for (std::int64_t d = draw.corner[0]; d < draw.corner[0] + draw.side[0]; ++d)
                for (std::int64_t h = draw.corner[1]; h < draw.corner[1] + draw.side[1]; ++h)
                    for (std::int64_t w = draw.corner[2]; w < draw.corner[2] + draw.side[2]; ++w, ++index) {
                        const auto block = draw.stream.block(static_cast<std::uint32_t>(index / 4));
                        const float value = uniform_of(block[index % 4]);
                        T* pixel = x + ((d * p.grid.h + h) * p.grid.w + w) * p.channels;
                        for (std::int64_t c = 0; c < p.channels; ++c) pixel[c] = static_cast<T>(value);
                    }
        }
    });
}

}  // namespace

std::span<const UniformNoiseVariant> uniform_noise_rows() {
    static constexpr UniformNoiseVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<NoiseParams>, run_uniform_noise<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<NoiseParams>, run_uniform_noise<double>}};
    return rows;
}

std::span<const AddNoiseVariant> add_noise_rows() {
    static constexpr AddNoiseVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<NoiseParams>, run_add_noise<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<NoiseParams>, run_add_noise<double>}};
    return rows;
}

std::span<const GaussianBlurVariant> gaussian_blur_rows() {
    static constexpr GaussianBlurVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<GaussianBlurParams>, run_gaussian_blur<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<GaussianBlurParams>, run_gaussian_blur<double>}};
    return rows;
}

std::span<const ChangeContrastVariant> change_contrast_rows() {
    static constexpr ChangeContrastVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ContrastParams>, run_change_contrast<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ContrastParams>, run_change_contrast<double>}};
    return rows;
}

std::span<const FillBlocksVariant> fill_blocks_rows() {
    static constexpr FillBlocksVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<FillBlocksParams>, run_fill_blocks<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<FillBlocksParams>, run_fill_blocks<double>}};
    return rows;
}

}  // namespace cover::ref
