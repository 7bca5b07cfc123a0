// The sums and products are those of the reference, bit for bit; a thread takes 16 bytes at a time.
#include <algorithm>

#include "kernels/cuda/op_rows.h"
#include "kernels/cuda/packs.h"

namespace cover::cuda::COVER_CUDA_BUILD {
namespace elementwise {

// Calls body(first element, width) for packs of `width` elements, and for what is left behind the last one by one.
template <int width, class Body>
__device__ void for_packs(std::int64_t count, const Body& body) {
    const std::int64_t i = global_thread(), packs = count / width;
    if (i < packs) body(i * width, std::integral_constant<int, width>());
    if (width > 1 && i < count - packs * width) body(packs * width + i, std::integral_constant<int, 1>());
}

template <class T, int width>
__global__ void add(T* y, const T* a, const T* b, std::int64_t count) {
    for_packs<width>(count, [&](std::int64_t i, auto w) {
        float x[w()], other[w()];
        load(x, a + i);
        load(other, b + i);
        for (int k = 0; k < w(); ++k) x[k] += other[k];
        store(y + i, x);
    });
}

template <class T, int width>
__global__ void scale(T* y, const T* x, double factor, std::int64_t count) {
    for_packs<width>(count, [&](std::int64_t i, auto w) {
        float values[w()];
        load(values, x + i);
        for (int k = 0; k < w(); ++k) values[k] = static_cast<float>(factor * static_cast<double>(values[k]));
        store(y + i, values);
    });
}

template <class To, class From>
__global__ void cast(To* y, const From* x, std::int64_t count) {
    const std::int64_t i = global_thread();
    if (i < count) y[i] = To(x[i]);
}

// Pixels of a and b, side by side in y; a and b are counted in packs.
struct Channels {
    std::int64_t pixels;
    unsigned a, b;
    unsigned pixels_per_block;
};

// Calls body(whether it lies in a, pack of a or b, pack of y) for what the thread copies: no pack lies in both.
template <class Body>
__device__ void for_channels(const Channels& channels, const Body& body) {
    const unsigned both = channels.a + channels.b;
    const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * channels.pixels_per_block;
    for (unsigned i = threadIdx.x; i < channels.pixels_per_block * both; i += threads_per_block) {
        const std::int64_t pixel = begin + i / both;
        const unsigned c = i % both;
        if (pixel >= channels.pixels) return;
        const bool in_a = c < channels.a;
        body(in_a, in_a ? pixel * channels.a + c : pixel * channels.b + c - channels.a, pixel * both + c);
    }
}

template <class Copied>
__global__ void concat(Copied* y, const Copied* a, const Copied* b, Channels channels) {
    for_channels(channels, [&](bool in_a, std::int64_t from, std::int64_t to) { y[to] = (in_a ? a : b)[from]; });
}

template <class Copied>
__global__ void split(Copied* a, Copied* b, const Copied* y, Channels channels) {
    for_channels(channels, [&](bool in_a, std::int64_t to, std::int64_t from) { (in_a ? a : b)[to] = y[from]; });
}

template <class T>
void run_add(View y, ConstView a, ConstView b, const ElementwiseParams& p, Stream& stream) {
    with_width<T>(keeps_alignment<T>(0, y, a, b), [&](auto width) {
        launch(stream, "add", blocks_for(p.count, threads_per_block * width()), threads_per_block, 0, add<T, width()>,
               y.as<T>(), a.as<T>(), b.as<T>(), p.count);
    });
}

template <class T>
void run_scale(View y, ConstView x, const ElementwiseParams& p, Stream& stream) {
    with_width<T>(keeps_alignment<T>(0, y, x), [&](auto width) {
        launch(stream, "scale", blocks_for(p.count, threads_per_block * width()), threads_per_block, 0,
               scale<T, width()>, y.as<T>(), x.as<T>(), p.factor, p.count);
    });
}

constexpr std::int64_t packs_per_block = 4 * threads_per_block;

Channels channels_of(const ConcatParams& p, int width) {
    const unsigned a = items_of_row(p.c_a / width), b = items_of_row(p.c_b / width);
    const std::int64_t at_once = std::max<std::int64_t>(1, packs_per_block / items_of_row(std::int64_t{a} + b));
    return {p.pixels, a, b, static_cast<unsigned>(at_once)};
}

template <class To, class From>
void run_cast(View y, ConstView x, const ElementwiseParams& p, Stream& stream) {
    launch(stream, "cast", blocks_for(p.count), threads_per_block, 0, cast<To, From>, y.as<To>(), x.as<From>(),
           p.count);
}

template <class T>
void run_concat(View y, ConstView a, ConstView b, const ConcatParams& p, Stream& stream) {
    with_width<T>(keeps_alignment<T>(p.c_a, y, a) && keeps_alignment<T>(p.c_b, b), [&](auto width) {
        using Copied = Pack<T, width()>;
        const Channels channels = channels_of(p, width());
        launch(stream, "concat", blocks_for(p.pixels, channels.pixels_per_block), threads_per_block, 0, concat<Copied>,
               reinterpret_cast<Copied*>(y.as<T>()), reinterpret_cast<const Copied*>(a.as<T>()),
               reinterpret_cast<const Copied*>(b.as<T>()), channels);
    });
}

template <class T>
void run_split(View a, View b, ConstView y, const ConcatParams& p, Stream& stream) {
    with_width<T>(keeps_alignment<T>(p.c_a, y, a) && keeps_alignment<T>(p.c_b, b), [&](auto width) {
        using Copied = Pack<T, width()>;
        const Channels channels = channels_of(p, width());
        launch(stream, "split", blocks_for(p.pixels, channels.pixels_per_block), threads_per_block, 0, split<Copied>,
               reinterpret_cast<Copied*>(a.as<T>()), reinterpret_cast<Copied*>(b.as<T>()),
               reinterpret_cast<const Copied*>(y.as<T>()), channels);
    });
}

}  // namespace elementwise

std::span<const AddVariant> add_rows() {
    static constexpr AddVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ElementwiseParams>, elementwise::run_add<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<ElementwiseParams>, elementwise::run_add<bfloat16>}};
    return rows;
}
std::span<const ScaleVariant> scale_rows() {
    static constexpr ScaleVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ElementwiseParams>, elementwise::run_scale<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<ElementwiseParams>,
         elementwise::run_scale<bfloat16>}};
    return rows;
}
std::span<const CastVariant> cast_rows() {
    static constexpr CastVariant rows[] = {{"cuda", this_device, DType::float32, Math::exact, always<ElementwiseParams>,
                                            elementwise::run_cast<bfloat16, float>},
                                           {"cuda", this_device, DType::bfloat16, Math::exact,
                                            always<ElementwiseParams>, elementwise::run_cast<float, bfloat16>}};
    return rows;
}
std::span<const ConcatVariant> concat_rows() {
    static constexpr ConcatVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ConcatParams>, elementwise::run_concat<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<ConcatParams>, elementwise::run_concat<bfloat16>}};
    return rows;
}
std::span<const SplitVariant> split_rows() {
    static constexpr SplitVariant rows[] = {
        {"cuda", this_device, DType::float32, Math::exact, always<ConcatParams>, elementwise::run_split<float>},
        {"cuda", this_device, DType::bfloat16, Math::exact, always<ConcatParams>, elementwise::run_split<bfloat16>}};
    return rows;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD
