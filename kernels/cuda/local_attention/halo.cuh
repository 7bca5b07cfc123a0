// The second rung: a block takes a tile of pixels and keeps what the windows of its pixels read of one head in shared
// memory, in the type of the tensors: the tile with a halo of `radius` pixels around it. A thread has two pixels, one
// above the other, whose windows share most of their rows. Softmax in powers of two: 1 / sqrt(head_dim) and log2(e) are
// multiplied into the features of the thread's own pixels.
#pragma once

#include "kernels/cuda/local_attention/heads.cuh"
#include "kernels/cuda/local_attention/window.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::local_attention::halo {

constexpr int own_pixels = 2;
constexpr int run_length = 5;  // neighbouring offsets of a window that are taken at once: a row of the usual radius, 2
constexpr unsigned threads = 128;
constexpr int usual_radius = 2;  // has kernels of its own; a template's fixed_radius of 0 leaves it to the run
constexpr float log2_e = 1.4426950408889634f;
constexpr float outside_power = outside_logit * log2_e;

// Pixels of a block. A warp is a run of image rows, so that its reads of the halo lie side by side.
template <int nd>
struct Tile {
    static constexpr unsigned d = nd == 3 ? 2 : 1, h = nd == 3 ? 4 : 8, w = 32;
    static_assert(d * h * w == own_pixels * threads);
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
    return {depth, radius, static_cast<int>(Tile<nd>::d) + 2 * depth, static_cast<int>(Tile<nd>::h) + 2 * radius,
            static_cast<int>(Tile<nd>::w) + 2 * radius};
}

// Tiles of the image, the last ones of an axis possibly beyond its end.
struct Tiles {
    unsigned d, h, w;

    std::int64_t count(std::int64_t n) const { return n * d * h * w; }
};

template <int nd>
Tiles tiles_of(const Grid& grid) {
    const auto count = [](std::int64_t side, unsigned tile) {
        return static_cast<unsigned>(items_of_row(side + tile - 1) / tile);
    };
    return {count(grid.d, Tile<nd>::d), count(grid.h, Tile<nd>::h), count(grid.w, Tile<nd>::w)};
}

// Of one thread: the first pixel of its block's tile, its own upper pixel, and which offsets from that stay inside the
// image.
struct Place {
    Pixel first;
    std::int64_t pixel;
    int in_halo;  // index of its own pixel there
    int count;    // of its pixels that exist
    Offset least, most;

    __device__ bool reaches_row(int d, int h) const {
        return d >= least.d && d <= most.d && h >= least.h && h <= most.h;
    }
    __device__ bool reaches_column(int w) const { return w >= least.w && w <= most.w; }
};

// To what matters: one more than any offset from the upper pixel.
__device__ inline int clamped(std::int64_t value, int radius) {
    const int limit = radius + own_pixels;
    return static_cast<int>(value < -limit ? -limit : value > limit ? limit : value);
}

template <int nd>
__device__ Place place_of(unsigned tile, const Grid& grid, const Halo& halo, const Tiles& tiles) {
    constexpr unsigned pairs = Tile<nd>::h / own_pixels;
    const unsigned row = tile / tiles.w, plane = row / tiles.h, n = plane / tiles.d;
    const unsigned w = threadIdx.x % Tile<nd>::w, h = threadIdx.x / Tile<nd>::w % pairs * own_pixels,
                   d = threadIdx.x / Tile<nd>::w / pairs;
    Place at;
    at.first = {n, std::int64_t{plane - n * tiles.d} * Tile<nd>::d, std::int64_t{row - plane * tiles.h} * Tile<nd>::h,
                std::int64_t{tile - row * tiles.w} * Tile<nd>::w};
    const Pixel own{n, at.first.d + d, at.first.h + h, at.first.w + w};
    at.pixel = ((n * grid.d + own.d) * grid.h + own.h) * grid.w + own.w;
    at.in_halo = halo.index(static_cast<int>(d) + halo.depth_radius, static_cast<int>(h) + halo.radius,
                            static_cast<int>(w) + halo.radius);
    const bool inside = own.d < grid.d && own.h < grid.h && own.w < grid.w;
    at.count = !inside ? 0 : own.h + 1 < grid.h ? own_pixels : 1;
    at.least = {clamped(-own.d, halo.radius), clamped(-own.h, halo.radius), clamped(-own.w, halo.radius)};
    at.most = {clamped(grid.d - 1 - own.d, halo.radius), clamped(grid.h - 1 - own.h, halo.radius),
               clamped(grid.w - 1 - own.w, halo.radius)};
    return at;
}

// Calls body(index in the halo, pixel of the image or -1) for the thread's share of the block's halo.
template <int nd, class Body>
__device__ void for_halo(const Grid& grid, const Halo& halo, const Pixel& first, const Body& body) {
    const unsigned width = static_cast<unsigned>(halo.w), height = static_cast<unsigned>(halo.h);
    for (unsigned i = threadIdx.x; i < static_cast<unsigned>(halo.pixels()); i += threads) {
        const unsigned row = i / width, plane = nd == 3 ? row / height : 0;
        const std::int64_t d = first.d + plane - halo.depth_radius, h = first.h + (row - plane * height) - halo.radius,
                           w = first.w + (i - row * width) - halo.radius;
        const bool inside = d >= 0 && d < grid.d && h >= 0 && h < grid.h && w >= 0 && w < grid.w;
        body(static_cast<int>(i), inside ? ((first.n * grid.d + d) * grid.h + h) * grid.w + w : -1);
    }
}

// Of the thread's own pixels, zeros for those that do not exist.
template <class T>
__device__ void load_own(Features (&own)[own_pixels], const T* x, float factor, int head, const Heads& p,
                         const Place& at, std::int64_t width) {
    for (int i = 0; i < own_pixels; ++i) {
        for (float& value : own[i]) value = 0;
        if (i < at.count) load_features(own[i], x, at.pixel + i * width, head, p);
        for (float& value : own[i]) value *= factor;
    }
}

// One head of the halo, in as many arrays as a pixel has accesses, so that those of a warp lie side by side.
template <class T>
struct HaloFeatures {
    static constexpr int accesses = features / wide<T>;
    Pack<T, wide<T>>* values;
    int pixels;

    static constexpr std::size_t bytes(const Halo& halo) {
        return Shared::shared_bytes_of<Pack<T, wide<T>>>(accesses * halo.pixels());
    }
    __device__ HaloFeatures(Shared& shared, const Halo& halo)
        : values(shared.take<Pack<T, wide<T>>>(accesses * halo.pixels())), pixels(halo.pixels()) {}

    __device__ void put(int index, const Features& head) {
        for (int a = 0; a < accesses; ++a) {
            float part[wide<T>];
            for (int k = 0; k < wide<T>; ++k) part[k] = head[a * wide<T> + k];
            store(values[a * pixels + index].values, part);
        }
    }
    __device__ void get(Features& head, int index) const {
        for (int a = 0; a < accesses; ++a) {
            float part[wide<T>];
            load(part, values[a * pixels + index].values);
            for (int k = 0; k < wide<T>; ++k) head[a * wide<T> + k] = part[k];
        }
    }
    // Zeros outside of the image.
    template <int nd>
    __device__ void fill(const T* x, int head, const Heads& p, const Grid& grid, const Halo& halo, const Pixel& first) {
        for_halo<nd>(grid, halo, first, [&](int index, std::int64_t pixel) {
            Features own{};
            if (pixel >= 0) load_features(own, x, pixel, head, p);
            put(index, own);
        });
    }
};

__device__ inline float dot(const Features& a, const Features& b) {
    float sum = 0;
    for (int f = 0; f < features; ++f) sum = std::fma(a[f], b[f], sum);
    return sum;
}

__device__ inline void add(Features& sums, float factor, const Features& head) {
    for (int f = 0; f < features; ++f) sums[f] = std::fma(factor, head[f], sums[f]);
}

// Calls body(d, h, w): the runs of offsets, from the upper pixel, of both windows together.
template <int nd, class Body>
__device__ void for_runs(const Halo& halo, const Body& body) {
    const int depth = nd == 3 ? halo.radius : 0;
    for (int d = -depth; d <= depth; ++d)
        for (int h = -halo.radius; h < halo.radius + own_pixels; ++h)
            for (int w = -halo.radius; w <= halo.radius; w += run_length) body(d, h, w);
}

__device__ inline bool in_window(int h, const Halo& halo) { return h >= -halo.radius && h <= halo.radius; }

// Softmax of runs of logits, as powers of two: the sum, and the sum of offsets, of 2^(logit - largest so far).
struct RunSoftmax {
    float largest = -INFINITY, sum = 0, d = 0, h = 0, w = 0;

    __device__ void add(const float (&logits)[run_length], int at_d, int at_h, int first_w) {
        float most = largest;
        for (const float logit : logits) most = std::fmax(most, logit);
        const float shrink = std::exp2(largest - most);
        float total = 0, along = 0;
        for (int k = 0; k < run_length; ++k) {
            const float weight = std::exp2(logits[k] - most);
            total += weight;
            along = std::fma(weight, static_cast<float>(k), along);
        }
        largest = most;
        sum = std::fma(sum, shrink, total);
        d = std::fma(d, shrink, static_cast<float>(at_d) * total);
        h = std::fma(h, shrink, static_cast<float>(at_h) * total);
        w = std::fma(w, shrink, std::fma(static_cast<float>(first_w), total, along));
    }
};

template <int nd, class T>
__device__ void add_windows(RunSoftmax (&softmaxes)[own_pixels], const Features (&queries)[own_pixels],
                            const HaloFeatures<T>& keys, const Halo& halo, const Place& at) {
    for_runs<nd>(halo, [&](int d, int h, int w) {
        const bool row_inside = at.reaches_row(d, h);
        const int from = at.in_halo + halo.index(d, h, w);
        float logits[own_pixels][run_length];
#pragma unroll
        for (int k = 0; k < run_length; ++k) {
            if (w + k > halo.radius) {
                for (auto& own : logits) own[k] = -INFINITY;
                continue;
            }
            Features key;
            keys.get(key, from + k);
            const bool inside = row_inside && at.reaches_column(w + k);
            for (int i = 0; i < own_pixels; ++i) {
                const float logit = dot(queries[i], key);
                logits[i][k] = inside ? logit : outside_power;
            }
        }
        for (int i = 0; i < own_pixels; ++i)
            if (in_window(h - i, halo)) softmaxes[i].add(logits[i], d, h - i, w);
    });
}

template <int nd, int fixed_radius, class T>
__global__ void forward(float* y, const T* q, const T* k, Grid grid, Heads p, int radius, Tiles tiles, float scale) {
    const Halo halo = halo_of<nd>(fixed_radius ? fixed_radius : radius);
    Shared shared;
    HaloFeatures<T> keys(shared, halo);
    const Place at = place_of<nd>(blockIdx.x, grid, halo, tiles);
    float sums[own_pixels][3] = {};
    for (int head = 0; head < p.heads; ++head) {
        block_sync();  // the head before has been read
        keys.template fill<nd>(k, head, p, grid, halo, at.first);
        block_sync();
        if (at.count == 0) continue;
        Features queries[own_pixels];
        load_own(queries, q, scale * log2_e, head, p, at, grid.w);
        RunSoftmax softmaxes[own_pixels];
        add_windows<nd>(softmaxes, queries, keys, halo, at);
        for (int i = 0; i < own_pixels; ++i) {
            sums[i][0] += softmaxes[i].d / softmaxes[i].sum;
            sums[i][1] += softmaxes[i].h / softmaxes[i].sum;
            sums[i][2] += softmaxes[i].w / softmaxes[i].sum;
        }
    }
    const float heads = static_cast<float>(p.heads);
    for (int i = 0; i < own_pixels; ++i)
        for (int a = 0; a < nd; ++a)
            if (i < at.count) y[(at.pixel + i * grid.w) * nd + a] = sums[i][3 - nd + a] / heads;
}

// Of one query and head: 2^(logit - log_sum) is a weight.
struct alignas(8) Statistics {
    float log_sum, mean_slope;
};

// The backward pass has a block per tile and head. dq, and the statistics for the gradient of the keys.
template <int nd, int fixed_radius, class T>
__global__ void query_gradient(T* dq, Statistics* statistics, const float* dy, const T* q, const T* k, Grid grid,
                               Heads p, int radius, Tiles tiles, float scale) {
    const Halo halo = halo_of<nd>(fixed_radius ? fixed_radius : radius);
    const unsigned heads = static_cast<unsigned>(p.heads), tile = blockIdx.x / heads;
    const int head = static_cast<int>(blockIdx.x - tile * heads);
    Shared shared;
    HaloFeatures<T> keys(shared, halo);
    const Place at = place_of<nd>(tile, grid, halo, tiles);
    keys.template fill<nd>(k, head, p, grid, halo, at.first);
    block_sync();
    if (at.count == 0) return;
    Features queries[own_pixels], sums[own_pixels] = {};
    load_own(queries, q, scale * log2_e, head, p, at, grid.w);
    RunSoftmax softmaxes[own_pixels];
    add_windows<nd>(softmaxes, queries, keys, halo, at);
    Cotangent cotangents[own_pixels] = {};
    Statistics own[own_pixels];
    for (int i = 0; i < own_pixels; ++i) {
        if (i < at.count) cotangents[i] = cotangent_of<nd>(dy + (at.pixel + i * grid.w) * nd, p.heads);
        const Cotangent& c = cotangents[i];
        const RunSoftmax& s = softmaxes[i];
        own[i] = {s.largest + std::log2(s.sum), std::fma(c.d, s.d, std::fma(c.h, s.h, c.w * s.w)) / s.sum};
        if (i < at.count) statistics[(at.pixel + i * grid.w) * p.heads + head] = own[i];
    }
    for_runs<nd>(halo, [&](int d, int h, int w) {
        const bool row_inside = at.reaches_row(d, h);
        const int from = at.in_halo + halo.index(d, h, w);
        float slopes[own_pixels], log_sums[own_pixels];  // an infinite sum takes a row from the window
        for (int i = 0; i < own_pixels; ++i) {
            slopes[i] = cotangents[i].slope({d, h - i, w}) - own[i].mean_slope;
            log_sums[i] = in_window(h - i, halo) ? own[i].log_sum : INFINITY;
        }
#pragma unroll
        for (int j = 0; j < run_length; ++j) {
            if (w + j > halo.radius) continue;
            Features key;
            keys.get(key, from + j);
            const bool inside = row_inside && at.reaches_column(w + j);
            for (int i = 0; i < own_pixels; ++i) {
                const float logit = dot(queries[i], key);
                const float slope = std::fma(cotangents[i].w, static_cast<float>(j), slopes[i]);
                add(sums[i], std::exp2((inside ? logit : outside_power) - log_sums[i]) * slope, key);
            }
        }
    });
    for (int i = 0; i < own_pixels; ++i)
        if (i < at.count) store_features(dq, at.pixel + i * grid.w, head, sums[i], scale, p);
}

// Gathers from the queries whose windows hold the thread's pixels as keys: those at minus the offset.
template <int nd, int fixed_radius, class T>
__global__ void key_gradient(T* dk, const Statistics* statistics, const float* dy, const T* q, const T* k, Grid grid,
                             Heads p, int radius, Tiles tiles, float scale) {
    const Halo halo = halo_of<nd>(fixed_radius ? fixed_radius : radius);
    const unsigned heads = static_cast<unsigned>(p.heads), tile = blockIdx.x / heads;
    const int head = static_cast<int>(blockIdx.x - tile * heads);
    Shared shared;
    HaloFeatures<T> queries(shared, halo);
    float4* facts = shared.take<float4>(halo.pixels());  // statistics, and the cotangent along H and W
    float* depths = nd == 3 ? shared.take<float>(halo.pixels()) : nullptr;  // along D
    const Place at = place_of<nd>(tile, grid, halo, tiles);
    queries.template fill<nd>(q, head, p, grid, halo, at.first);
    for_halo<nd>(grid, halo, at.first, [&](int index, std::int64_t pixel) {
        Statistics query{INFINITY, 0};  // outside of the image: no weight
        Cotangent cotangent{0, 0, 0};
        if (pixel >= 0) {
            query = statistics[pixel * p.heads + head];
            cotangent = cotangent_of<nd>(dy + pixel * nd, p.heads);
        }
        facts[index] = {query.log_sum, query.mean_slope, cotangent.h, cotangent.w};
        if (nd == 3) depths[index] = cotangent.d;
    });
    block_sync();
    if (at.count == 0) return;
    Features keys[own_pixels], sums[own_pixels] = {};
    load_own(keys, k, scale * log2_e, head, p, at, grid.w);
    for_runs<nd>(halo, [&](int d, int h, int w) {
        const int from = at.in_halo + halo.index(d, h, w);
        const float over_d = static_cast<float>(-d), over_h = static_cast<float>(-h), over_w = static_cast<float>(-w);
#pragma unroll
        for (int j = 0; j < run_length; ++j) {
            if (w + j > halo.radius) continue;
            Features query;
            queries.get(query, from + j);
            const float4 fact = facts[from + j];
            float along_row = std::fma(fact.w, over_w - static_cast<float>(j), -fact.y);
            if (nd == 3) along_row = std::fma(depths[from + j], over_d, along_row);
            for (int i = 0; i < own_pixels; ++i) {
                const float slope = std::fma(fact.z, over_h + static_cast<float>(i), along_row);
                const float log_sum = in_window(h - i, halo) ? fact.x : INFINITY;
                add(sums[i], std::exp2(dot(query, keys[i]) - log_sum) * slope, query);
            }
        }
    });
    for (int i = 0; i < own_pixels; ++i)
        if (i < at.count) store_features(dk, at.pixel + i * grid.w, head, sums[i], scale, p);
}

constexpr Halo halo_for(const LocalAttentionParams& p) {
    return p.grid.spatial_dims == 2 ? halo_of<2>(p.radius) : halo_of<3>(p.radius);
}

template <class T>
std::size_t key_gradient_bytes(const LocalAttentionParams& p) {
    const Halo halo = halo_for(p);
    return HaloFeatures<T>::bytes(halo) + Shared::shared_bytes_of<float4>(halo.pixels()) +
           (p.grid.spatial_dims == 3 ? Shared::shared_bytes_of<float>(halo.pixels()) : 0);
}

// A larger radius fits no block's shared memory; counted before a halo's size would pass an int.
constexpr int largest_radius = 64;

template <class T>
bool can_run(const LocalAttentionParams& p, const DeviceFacts& facts) {
    return p.head_dim <= features && p.radius <= largest_radius &&
           static_cast<std::int64_t>(HaloFeatures<T>::bytes(halo_for(p))) <= facts.shared_memory_per_block;
}

template <class T>
bool can_run_backward(const LocalAttentionParams& p, const DeviceFacts& facts) {
    return can_run<T>(p, facts) && static_cast<std::int64_t>(key_gradient_bytes<T>(p)) <= facts.shared_memory_per_block;
}

template <class T, class... Views>
Heads heads_of(const LocalAttentionParams& p, const Views&... views) {
    return {p.heads, p.head_dim, p.heads == 1 && p.head_dim == features && keeps_alignment<T>(features, views...), 0};
}

template <int nd, int fixed_radius, class T>
void run_in(View y, ConstView q, ConstView k, const LocalAttentionParams& p, Stream& stream) {
    const Tiles tiles = tiles_of<nd>(p.grid);
    launch(stream, "local_attention", blocks_for(tiles.count(p.n), 1), threads, HaloFeatures<T>::bytes(halo_for(p)),
           forward<nd, fixed_radius, T>, y.as<float>(), q.as<T>(), k.as<T>(), p.grid, heads_of<T>(p, q, k), p.radius,
           tiles, logit_scale(p));
}

template <int nd, int fixed_radius, class T>
void run_gradients(T* dq, T* dk, const float* dy, const T* q, const T* k, const LocalAttentionParams& p,
                   const Heads& heads, Stream& stream) {
    const Tiles tiles = tiles_of<nd>(p.grid);
    const unsigned blocks = blocks_for(tiles.count(p.n) * p.heads, 1);
    Workspace<Statistics> statistics(p.n * p.grid.pixels() * p.heads, stream);
    launch(stream, "local_attention_backward, queries", blocks, threads, HaloFeatures<T>::bytes(halo_for(p)),
           query_gradient<nd, fixed_radius, T>, dq, statistics.data(), dy, q, k, p.grid, heads, p.radius, tiles,
           logit_scale(p));
    launch(stream, "local_attention_backward, keys", blocks, threads, key_gradient_bytes<T>(p),
           key_gradient<nd, fixed_radius, T>, dk, statistics.data(), dy, q, k, p.grid, heads, p.radius, tiles,
           logit_scale(p));
}

// Several full heads are taken apart and put together again by launches of their own: a block of a head would read and
// write a few bytes of each sector.
template <int nd, int fixed_radius, class T>
void run_backward_in(View dq, View dk, ConstView dy, ConstView q, ConstView k, const LocalAttentionParams& p,
                     Stream& stream) {
    if (p.heads == 1 || p.head_dim != features)
        return run_gradients<nd, fixed_radius, T>(dq.as<T>(), dk.as<T>(), dy.as<float>(), q.as<T>(), k.as<T>(), p,
                                                  heads_of<T>(p, dq, dk, q, k), stream);
    const std::int64_t pixels = p.n * p.grid.pixels(), count = pixels * p.heads;
    Workspace<T> inputs(2 * count * features, stream), gradients(2 * count * features, stream);
    T *apart_q = inputs.data(), *apart_k = apart_q + count * features;
    T *apart_dq = gradients.data(), *apart_dk = apart_dq + count * features;
    const unsigned blocks = blocks_for(2 * count);
    launch(stream, "local_attention_backward, apart", blocks, threads_per_block, 0, take_apart<T>, apart_q, apart_k,
           q.as<T>(), k.as<T>(), pixels, p.heads);
    run_gradients<nd, fixed_radius, T>(apart_dq, apart_dk, dy.as<float>(), apart_q, apart_k, p,
                                       {p.heads, p.head_dim, true, pixels * features}, stream);
    launch(stream, "local_attention_backward, together", blocks, threads_per_block, 0, put_together<T>, dq.as<T>(),
           dk.as<T>(), apart_dq, apart_dk, pixels, p.heads);
}

// Calls body(dimensions, fixed radius) with what the parameters ask for, as constants.
template <class Body>
void with_kernel(const LocalAttentionParams& p, const Body& body) {
    const auto with_radius = [&](auto nd) {
        if (p.radius == usual_radius)
            body(nd, std::integral_constant<int, usual_radius>());
        else
            body(nd, std::integral_constant<int, 0>());
    };
    if (p.grid.spatial_dims == 2)
        with_radius(std::integral_constant<int, 2>());
    else
        with_radius(std::integral_constant<int, 3>());
}

template <class T>
void run(View y, ConstView q, ConstView k, const LocalAttentionParams& p, Stream& stream) {
    with_kernel(p, [&](auto nd, auto radius) { run_in<nd(), radius(), T>(y, q, k, p, stream); });
}

template <class T>
void run_backward(View dq, View dk, ConstView dy, ConstView q, ConstView k, const LocalAttentionParams& p,
                  Stream& stream) {
    with_kernel(p, [&](auto nd, auto radius) { run_backward_in<nd(), radius(), T>(dq, dk, dy, q, k, p, stream); });
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::local_attention::halo
