#include "kernels/cpu/elementwise.h"

#include "kernels/cpu/rows.h"
#include "kernels/elementwise.h"

namespace cover::cpu {

void add(const ElementwiseKernels& kernels, View y, ConstView a, ConstView b, const ElementwiseParams& params,
         Stream& stream) {
    const Pieces pieces = Pieces::of(params.count, 1, task_elements);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t at = pieces.begin(piece);
        kernels.add(y.as<float>() + at, a.as<float>() + at, b.as<float>() + at, pieces.length(piece));
    });
}

void scale(const ElementwiseKernels& kernels, View y, ConstView x, const ElementwiseParams& params, Stream& stream) {
    const Pieces pieces = Pieces::of(params.count, 1, task_elements);
    // Scaling in place finds its lines in the cache already.
    const bool streaming = y.data != x.data && worth_streaming(y.as<float>(), params.count, task_elements);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t at = pieces.begin(piece);
        kernels.scale(y.as<float>() + at, x.as<float>() + at, static_cast<float>(params.factor), pieces.length(piece),
                      streaming);
    });
}

void cast_to_bfloat16(const ElementwiseKernels& kernels, View y, ConstView x, const ElementwiseParams& params,
                      Stream& stream) {
    const Pieces pieces = Pieces::of(params.count, 1, task_elements);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t at = pieces.begin(piece);
        kernels.to_bfloat16(&(y.as<bfloat16>() + at)->bits, x.as<float>() + at, pieces.length(piece));
    });
}

void cast_from_bfloat16(const ElementwiseKernels& kernels, View y, ConstView x, const ElementwiseParams& params,
                        Stream& stream) {
    const Pieces pieces = Pieces::of(params.count, 1, task_elements);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t at = pieces.begin(piece);
        kernels.from_bfloat16(y.as<float>() + at, &(x.as<bfloat16>() + at)->bits, pieces.length(piece));
    });
}

void concat(const ElementwiseKernels& kernels, View y, ConstView a, ConstView b, const ConcatParams& params,
            Stream& stream) {
    const std::int64_t all = params.c_a + params.c_b;
    const Pieces pieces = Pieces::of(params.pixels, all, task_elements);
    const bool streaming = worth_streaming(y.as<float>(), params.pixels * all, all) && params.c_a % 16 == 0;
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t at = pieces.begin(piece), pixels = pieces.length(piece);
        float* to = y.as<float>() + at * all;
        kernels.copy_rows(to, all, a.as<float>() + at * params.c_a, params.c_a, pixels, params.c_a, streaming);
        kernels.copy_rows(to + params.c_a, all, b.as<float>() + at * params.c_b, params.c_b, pixels, params.c_b,
                          streaming);
    });
}

void split(const ElementwiseKernels& kernels, View a, View b, ConstView y, const ConcatParams& params, Stream& stream) {
    const std::int64_t all = params.c_a + params.c_b;
    const Pieces pieces = Pieces::of(params.pixels, all, task_elements);
    const bool streaming = worth_streaming(a.as<float>(), params.pixels * params.c_a, params.c_a) &&
                           worth_streaming(b.as<float>(), params.pixels * params.c_b, params.c_b);
    stream.parallel(pieces.count(), [&](std::int64_t piece) {
        const std::int64_t at = pieces.begin(piece), pixels = pieces.length(piece);
        const float* from = y.as<float>() + at * all;
        kernels.copy_rows(a.as<float>() + at * params.c_a, params.c_a, from, all, pixels, params.c_a, streaming);
        kernels.copy_rows(b.as<float>() + at * params.c_b, params.c_b, from + params.c_a, all, pixels, params.c_b,
                          streaming);
    });
}

std::span<const AddVariant> add_rows() {
    return simd_rows<AddVariant, ElementwiseParams, AddRun, add, avx2::elementwise_kernels,
                     avx512::elementwise_kernels>();
}
std::span<const ScaleVariant> scale_rows() {
    return simd_rows<ScaleVariant, ElementwiseParams, ScaleRun, scale, avx2::elementwise_kernels,
                     avx512::elementwise_kernels>();
}
std::span<const CastVariant> cast_rows() {
    using Params = ElementwiseParams;
    static constexpr CastVariant rows[] = {
        {"cpu_avx2", Device::cpu, DType::float32, Math::exact, needs_avx2<Params>,
         WithKernels<cast_to_bfloat16, avx2::elementwise_kernels, CastRun>::run},
        {"cpu_avx2", Device::cpu, DType::bfloat16, Math::exact, needs_avx2<Params>,
         WithKernels<cast_from_bfloat16, avx2::elementwise_kernels, CastRun>::run},
        {"cpu_avx512", Device::cpu, DType::float32, Math::exact, needs_avx512<Params>,
         WithKernels<cast_to_bfloat16, avx512::elementwise_kernels, CastRun>::run},
        {"cpu_avx512", Device::cpu, DType::bfloat16, Math::exact, needs_avx512<Params>,
         WithKernels<cast_from_bfloat16, avx512::elementwise_kernels, CastRun>::run},
    };
    return rows;
}
std::span<const ConcatVariant> concat_rows() {
    return simd_rows<ConcatVariant, ConcatParams, ConcatRun, concat, avx2::elementwise_kernels,
                     avx512::elementwise_kernels>();
}
std::span<const SplitVariant> split_rows() {
    return simd_rows<SplitVariant, ConcatParams, SplitRun, split, avx2::elementwise_kernels,
                     avx512::elementwise_kernels>();
}

}  // namespace cover::cpu
