#include "kernels/augment.h"

#include "kernels/cuda/rows.h"
#include "kernels/grid_check.h"

namespace cover {

void validate(const NoiseParams& params) {
    require_positive("noise", "the batch", params.n);
    require_positive("noise", "elements", params.elements);
    require(params.first >= 0, ErrorKind::internal, "[noise] a stream has no number ", params.first);
}

void validate(const GaussianBlurParams& params) {
    require_grid("gaussian_blur", params.n, params.grid);
    require_positive("gaussian_blur", "channels", params.channels);
    require(params.radius >= 0, ErrorKind::internal, "[gaussian_blur] a radius of ", params.radius);
}

void validate(const ContrastParams& params) {
    require_positive("change_contrast", "the batch", params.n);
    require_positive("change_contrast", "elements", params.elements);
}

void validate(const FillBlocksParams& params) {
    require_grid("fill_blocks", params.n, params.grid);
    require_positive("fill_blocks", "channels", params.channels);
    require_positive("fill_blocks", "blocks", params.blocks);
}

std::span<const UniformNoiseVariant> uniform_noise_table() {
    static const auto table =
        cuda::with_cuda<UniformNoiseVariant>({ref::uniform_noise_rows()}, &cuda::Rows::uniform_noise);
    return table;
}

std::span<const AddNoiseVariant> add_noise_table() {
    static const auto table = cuda::with_cuda<AddNoiseVariant>({ref::add_noise_rows()}, &cuda::Rows::add_noise);
    return table;
}

std::span<const GaussianBlurVariant> gaussian_blur_table() {
    static const auto table =
        cuda::with_cuda<GaussianBlurVariant>({ref::gaussian_blur_rows()}, &cuda::Rows::gaussian_blur);
    return table;
}

std::span<const ChangeContrastVariant> change_contrast_table() {
    static const auto table =
        cuda::with_cuda<ChangeContrastVariant>({ref::change_contrast_rows()}, &cuda::Rows::change_contrast);
    return table;
}

std::span<const FillBlocksVariant> fill_blocks_table() {
    static const auto table = cuda::with_cuda<FillBlocksVariant>({ref::fill_blocks_rows()}, &cuda::Rows::fill_blocks);
    return table;
}

void uniform_noise(View y, ConstView draws, const NoiseParams& params, Stream& stream) {
    validate(params);
    require_view("uniform_noise", "y", y, y.dtype, params.count());
    require_view("uniform_noise", "draws", draws, DType::float64, record_elements<NoiseDraw>(params.n));
    select("uniform_noise", uniform_noise_table(), params, y.dtype, stream).run(y, draws, params, stream);
}

void add_noise(View x, ConstView draws, const NoiseParams& params, Stream& stream) {
    validate(params);
    require_view("add_noise", "x", x, x.dtype, params.count());
    require_view("add_noise", "draws", draws, DType::float64, record_elements<NoiseDraw>(params.n));
    select("add_noise", add_noise_table(), params, x.dtype, stream).run(x, draws, params, stream);
}

void gaussian_blur(View x, ConstView weights, const GaussianBlurParams& params, Stream& stream) {
    validate(params);
    require_view("gaussian_blur", "x", x, x.dtype, params.count());
    require_view("gaussian_blur", "weights", weights, DType::float64, params.n * params.taps());
    select("gaussian_blur", gaussian_blur_table(), params, x.dtype, stream).run(x, weights, params, stream);
}

void change_contrast(View x, ConstView draws, const ContrastParams& params, Stream& stream) {
    validate(params);
    require_view("change_contrast", "x", x, x.dtype, params.count());
    require_view("change_contrast", "draws", draws, DType::float64, record_elements<ContrastDraw>(params.n));
    select("change_contrast", change_contrast_table(), params, x.dtype, stream).run(x, draws, params, stream);
}

void fill_blocks(View x, ConstView draws, const FillBlocksParams& params, Stream& stream) {
    validate(params);
    require_view("fill_blocks", "x", x, x.dtype, params.count());
    require_view("fill_blocks", "draws", draws, DType::float64, record_elements<BlockDraw>(params.n * params.blocks));
    select("fill_blocks", fill_blocks_table(), params, x.dtype, stream).run(x, draws, params, stream);
}

}  // namespace cover
