// The second rung: a block takes a tile of pixels and one head after the other, and keeps what the windows of its
// pixels read of that head in shared memory: the tile with a halo of `radius` pixels around it. Every sum is that of
// the first rung.
#pragma once

#include "kernels/cuda/local_attention/window.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::local_attention::halo {

constexpr int features = 8;  // of a head; fewer are filled up with zeros

// Pixels of a block, one per thread. A warp is a run of one image row, so that its reads of the halo lie side by side.
template <int nd>
struct Tile {
    static constexpr int d = nd == 3 ? 2 : 1, h = nd == 3 ? 4 : 8, w = 32;
    static_assert(d * h * w == threads_per_block);
};

// Sides of tile and halo.
struct Halo {
    int depth_radius, radius, d, h, w;

    constexpr int pixels() const { return d * h * w; }
    constexpr int index(int at_d, int at_h, int at_w) const { return (at_d * h + at_h) * w + at_w; }
};

template <int nd>
constexpr Halo halo_of(int radius) {
    const int depth = nd == 3 ? radius : 0;
    return {depth, radius, Tile<nd>::d + 2 * depth, Tile<nd>::h + 2 * radius, Tile<nd>::w + 2 * radius};
}

// Tiles of the image, the last ones of an axis possibly beyond its end.
struct Tiles {
    std::int64_t d, h, w;
};

template <int nd>
Tiles tiles_of(const Grid& grid) {
    return {(grid.d + Tile<nd>::d - 1) / Tile<nd>::d, (grid.h + Tile<nd>::h - 1) / Tile<nd>::h,
            (grid.w + Tile<nd>::w - 1) / Tile<nd>::w};
}

// Of one thread: the first pixel of its block's tile, its own pixel, and which offsets from it stay inside the image.
struct Place {
    Pixel first;
    std::int64_t pixel;
    int in_halo;  // index of its own pixel there
    bool inside;
    Offset least, most;

    __device__ bool reaches(const Offset& offset) const {
        return offset.d >= least.d && offset.d <= most.d && offset.h >= least.h && offset.h <= most.h &&
               offset.w >= least.w && offset.w <= most.w;
    }
};

__device__ inline int clamped(std::int64_t value, int radius) {
    return static_cast<int>(value < -radius ? -radius : value > radius ? radius : value);
}

template <int nd>
__device__ Place place_of(const LocalAttentionParams& p, const Halo& halo, const Tiles& tiles) {
    const std::int64_t block = blockIdx.x, row = block / tiles.w, plane = row / tiles.h, n = plane / tiles.d;
    const int thread = static_cast<int>(threadIdx.x), w = thread % Tile<nd>::w, h = thread / Tile<nd>::w % Tile<nd>::h,
              d = thread / Tile<nd>::w / Tile<nd>::h;
    Place at;
    at.first = {n, (plane - n * tiles.d) * Tile<nd>::d, (row - plane * tiles.h) * Tile<nd>::h,
                (block - row * tiles.w) * Tile<nd>::w};
    const Pixel own{n, at.first.d + d, at.first.h + h, at.first.w + w};
    at.pixel = ((n * p.grid.d + own.d) * p.grid.h + own.h) * p.grid.w + own.w;
    at.in_halo = halo.index(d + halo.depth_radius, h + halo.radius, w + halo.radius);
    at.inside = own.d < p.grid.d && own.h < p.grid.h && own.w < p.grid.w;
    at.least = {clamped(-own.d, halo.radius), clamped(-own.h, halo.radius), clamped(-own.w, halo.radius)};
    at.most = {clamped(p.grid.d - 1 - own.d, halo.radius), clamped(p.grid.h - 1 - own.h, halo.radius),
               clamped(p.grid.w - 1 - own.w, halo.radius)};
    return at;
}

// The image's pixel at `index` of the halo; -1 outside.
__device__ inline std::int64_t image_pixel(const Grid& grid, const Halo& halo, const Pixel& first, int index) {
    const std::int64_t d = first.d + index / (halo.h * halo.w) - halo.depth_radius,
                       h = first.h + index / halo.w % halo.h - halo.radius, w = first.w + index % halo.w - halo.radius;
    if (d < 0 || d >= grid.d || h < 0 || h >= grid.h || w < 0 || w >= grid.w) return -1;
    return ((first.n * grid.d + d) * grid.h + h) * grid.w + w;
}

struct Features {
    float values[features];
};

// Of one head; `x` points to its first channel of the pixel.
__device__ inline Features load_features(const float* x, const LocalAttentionParams& p) {
    Features head;
    for (int f = 0; f < features; ++f) head.values[f] = f < p.head_dim ? x[f * p.heads] : 0;
    return head;
}

__device__ inline void store_features(float* to, const Features& head, float factor, const LocalAttentionParams& p) {
    for (int f = 0; f < features; ++f)
        if (f < p.head_dim) to[f * p.heads] = factor * head.values[f];
}

// One head of the halo: the first four features of all pixels, then the other four.
struct HaloFeatures {
    float4* values;
    int pixels;

    __device__ void put(int index, const Features& head) {
        const float* v = head.values;
        values[index] = {v[0], v[1], v[2], v[3]};
        values[pixels + index] = {v[4], v[5], v[6], v[7]};
    }
    __device__ Features at(int index) const {
        const float4 a = values[index], b = values[pixels + index];
        return {{a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w}};
    }
};

__device__ inline float dot(const Features& a, const Features& b) {
    float sum = 0;
    for (int f = 0; f < features; ++f) sum = std::fma(a.values[f], b.values[f], sum);
    return sum;
}

__device__ inline void add(Features& sums, float factor, const Features& head) {
    for (int f = 0; f < features; ++f) sums.values[f] = std::fma(factor, head.values[f], sums.values[f]);
}

constexpr std::size_t features_bytes(const Halo& halo) { return Shared::shared_bytes_of<float4>(2 * halo.pixels()); }
// Of what the gradient of the keys needs of the queries besides their features.
constexpr std::size_t queries_bytes(const Halo& halo) {
    return Shared::shared_bytes_of<float4>(halo.pixels()) + Shared::shared_bytes_of<float2>(halo.pixels());
}

// Fills the block's halo with one head of x; zeros outside of the image.
__device__ inline void fill(HaloFeatures& to, const float* x, int head, const LocalAttentionParams& p, const Halo& halo,
                            const Pixel& first) {
    for (int i = static_cast<int>(threadIdx.x); i < halo.pixels(); i += threads_per_block) {
        const std::int64_t pixel = image_pixel(p.grid, halo, first, i);
        to.put(i, pixel < 0 ? Features{} : load_features(x + pixel * p.channels() + head, p));
    }
}

template <int nd>
__device__ Softmax softmax_of(const Features& query, const HaloFeatures& keys, const Halo& halo, const Place& at,
                              float scale) {
    Softmax softmax;
    for_window<nd>(halo.radius, [&](const Offset& o) {
        const float logit = dot(query, keys.at(at.in_halo + halo.index(o.d, o.h, o.w))) * scale;
        softmax.add(at.reaches(o) ? logit : outside_logit, o);
    });
    return softmax;
}

template <int nd>
__global__ void forward(float* y, const float* q, const float* k, LocalAttentionParams p, Tiles tiles, float scale) {
    const Halo halo = halo_of<nd>(p.radius);
    Shared shared;
    HaloFeatures keys{shared.take<float4>(2 * halo.pixels()), halo.pixels()};
    const Place at = place_of<nd>(p, halo, tiles);
    float d = 0, h = 0, w = 0;
    for (int head = 0; head < p.heads; ++head) {
        block_sync();  // the head before has been read
        fill(keys, k, head, p, halo, at.first);
        block_sync();
        if (!at.inside) continue;
        const Features query = load_features(q + at.pixel * p.channels() + head, p);
        const Softmax softmax = softmax_of<nd>(query, keys, halo, at, scale);
        d += softmax.d / softmax.sum;
        h += softmax.h / softmax.sum;
        w += softmax.w / softmax.sum;
    }
    if (!at.inside) return;
    const float heads = static_cast<float>(p.heads);
    if (nd == 3) y[at.pixel * nd] = d / heads;
    y[at.pixel * nd + nd - 2] = h / heads;
    y[at.pixel * nd + nd - 1] = w / heads;
}

// dq, and the statistics for the gradient of the keys.
template <int nd>
__global__ void query_gradient(float* dq, QueryStatistics* statistics, const float* dy, const float* q, const float* k,
                               LocalAttentionParams p, Tiles tiles, float scale) {
    const Halo halo = halo_of<nd>(p.radius);
    Shared shared;
    HaloFeatures keys{shared.take<float4>(2 * halo.pixels()), halo.pixels()};
    const Place at = place_of<nd>(p, halo, tiles);
    for (int head = 0; head < p.heads; ++head) {
        block_sync();  // the head before has been read
        fill(keys, k, head, p, halo, at.first);
        block_sync();
        if (!at.inside) continue;
        const std::int64_t begin = at.pixel * p.channels() + head;
        const Features own = load_features(q + begin, p);
        const Cotangent cotangent = cotangent_of<nd>(dy + at.pixel * nd, p);
        const QueryStatistics query = statistics_of(softmax_of<nd>(own, keys, halo, at, scale), cotangent);
        statistics[at.pixel * p.heads + head] = query;
        Features sums{};
        for_window<nd>(halo.radius, [&](const Offset& o) {
            if (!at.reaches(o)) return;
            const Features key = keys.at(at.in_halo + halo.index(o.d, o.h, o.w));
            add(sums, logit_gradient(dot(own, key) * scale, o, query, cotangent), key);
        });
        store_features(dq + begin, sums, scale, p);
    }
}

// Gathers from the queries whose window holds the thread's pixel as a key: those at minus the offset.
template <int nd>
__global__ void key_gradient(float* dk, const QueryStatistics* statistics, const float* dy, const float* q,
                             const float* k, LocalAttentionParams p, Tiles tiles, float scale) {
    const Halo halo = halo_of<nd>(p.radius);
    Shared shared;
    HaloFeatures values{shared.take<float4>(2 * halo.pixels()), halo.pixels()};
    float4* query_statistics = shared.take<float4>(halo.pixels());  // and the cotangent along D
    float2* cotangents = shared.take<float2>(halo.pixels());        // along H and W
    const Place at = place_of<nd>(p, halo, tiles);
    for (int head = 0; head < p.heads; ++head) {
        block_sync();  // the head before has been read
        fill(values, q, head, p, halo, at.first);
        for (int i = static_cast<int>(threadIdx.x); i < halo.pixels(); i += threads_per_block) {
            const std::int64_t pixel = image_pixel(p.grid, halo, at.first, i);
            if (pixel < 0) continue;
            const QueryStatistics query = statistics[pixel * p.heads + head];
            const Cotangent cotangent = cotangent_of<nd>(dy + pixel * nd, p);
            query_statistics[i] = {query.largest, query.inverse_sum, query.mean_slope, cotangent.d};
            cotangents[i] = {cotangent.h, cotangent.w};
        }
        block_sync();
        if (!at.inside) continue;
        const std::int64_t begin = at.pixel * p.channels() + head;
        const Features own = load_features(k + begin, p);
        Features sums{};
        for_window<nd>(halo.radius, [&](const Offset& o) {
            if (!at.reaches({-o.d, -o.h, -o.w})) return;
            const int from = at.in_halo - halo.index(o.d, o.h, o.w);
            const float4 s = query_statistics[from];
            const float2 c = cotangents[from];
            const Features query = values.at(from);
            add(sums, logit_gradient(dot(query, own) * scale, o, {s.x, s.y, s.z}, {s.w, c.x, c.y}), query);
        });
        store_features(dk + begin, sums, scale, p);
    }
}

constexpr Halo halo_for(const LocalAttentionParams& p) {
    return p.grid.spatial_dims == 2 ? halo_of<2>(p.radius) : halo_of<3>(p.radius);
}

// A larger radius fits no block's shared memory; counted before a halo's size would pass an int.
constexpr int largest_radius = 64;

inline bool can_run(const LocalAttentionParams& p, const DeviceFacts& facts) {
    return p.head_dim <= features && p.radius <= largest_radius &&
           static_cast<std::int64_t>(features_bytes(halo_for(p))) <= facts.shared_memory_per_block;
}

inline bool can_run_backward(const LocalAttentionParams& p, const DeviceFacts& facts) {
    return can_run(p, facts) && static_cast<std::int64_t>(features_bytes(halo_for(p)) + queries_bytes(halo_for(p))) <=
                                    facts.shared_memory_per_block;
}

template <int nd>
void run_in(float* y, const float* q, const float* k, const LocalAttentionParams& p, Stream& stream) {
    const Tiles tiles = tiles_of<nd>(p.grid);
    launch(stream, "local_attention", blocks_for(p.n * tiles.d * tiles.h * tiles.w, 1), threads_per_block,
           features_bytes(halo_for(p)), forward<nd>, y, q, k, p, tiles, logit_scale(p));
}

template <int nd>
void run_backward_in(float* dq, float* dk, const float* dy, const float* q, const float* k,
                     const LocalAttentionParams& p, Stream& stream) {
    const Tiles tiles = tiles_of<nd>(p.grid);
    const unsigned blocks = blocks_for(p.n * tiles.d * tiles.h * tiles.w, 1);
    const Halo halo = halo_for(p);
    Workspace<QueryStatistics> statistics(p.n * p.grid.pixels() * p.heads, stream);
    launch(stream, "local_attention_backward, queries", blocks, threads_per_block, features_bytes(halo),
           query_gradient<nd>, dq, statistics.data(), dy, q, k, p, tiles, logit_scale(p));
    launch(stream, "local_attention_backward, keys", blocks, threads_per_block,
           features_bytes(halo) + queries_bytes(halo), key_gradient<nd>, dk, statistics.data(), dy, q, k, p, tiles,
           logit_scale(p));
}

inline void run(View y, ConstView q, ConstView k, const LocalAttentionParams& p, Stream& stream) {
    (p.grid.spatial_dims == 2 ? run_in<2> : run_in<3>)(y.as<float>(), q.as<float>(), k.as<float>(), p, stream);
}

inline void run_backward(View dq, View dk, ConstView dy, ConstView q, ConstView k, const LocalAttentionParams& p,
                         Stream& stream) {
    (p.grid.spatial_dims == 2 ? run_backward_in<2> : run_backward_in<3>)(dq.as<float>(), dk.as<float>(), dy.as<float>(),
                                                                         q.as<float>(), k.as<float>(), p, stream);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::local_attention::halo
