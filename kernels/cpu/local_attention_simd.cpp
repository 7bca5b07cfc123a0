#include "kernels/cpu/local_attention.h"
#include "kernels/cpu/simd.h"

namespace cover::cpu::COVER_ISA {
namespace {

constexpr std::int64_t round_up(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }

// 8 x 8 floats: to[j * to_stride + i] = from[i * from_stride + j].
COVER_INLINE void transpose8(float* to, std::int64_t to_stride, const float* from, std::int64_t from_stride) {
    Float<8> r[8], s[8];
    for (int i = 0; i < 8; ++i) r[i] = load<8>(from + i * from_stride);
    for (int i = 0; i < 4; ++i) {
        s[2 * i] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        s[2 * i + 1] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 2; ++i) {
        r[4 * i] = __builtin_shufflevector(s[4 * i], s[4 * i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        r[4 * i + 1] = __builtin_shufflevector(s[4 * i], s[4 * i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        r[4 * i + 2] = __builtin_shufflevector(s[4 * i + 1], s[4 * i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        r[4 * i + 3] = __builtin_shufflevector(s[4 * i + 1], s[4 * i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int i = 0; i < 4; ++i) {
        store<8>(to + i * to_stride, __builtin_shufflevector(r[i], r[4 + i], 0, 1, 2, 3, 8, 9, 10, 11));
        store<8>(to + (4 + i) * to_stride, __builtin_shufflevector(r[i], r[4 + i], 4, 5, 6, 7, 12, 13, 14, 15));
    }
}

// to (columns, rows) from (rows, columns), each with its own stride between the starts of its rows.
void transpose(float* to, std::int64_t to_stride, const float* from, std::int64_t from_stride, std::int64_t rows,
               std::int64_t columns) {
    std::int64_t row = 0;
    for (; row + 8 <= rows; row += 8) {
        std::int64_t column = 0;
        for (; column + 8 <= columns; column += 8)
            transpose8(to + column * to_stride + row, to_stride, from + row * from_stride + column, from_stride);
        for (; column < columns; ++column)
            for (std::int64_t i = row; i < row + 8; ++i) to[column * to_stride + i] = from[i * from_stride + column];
    }
    for (; row < rows; ++row)
        for (std::int64_t column = 0; column < columns; ++column)
            to[column * to_stride + row] = from[row * from_stride + column];
}

// A box of pixels (d, h, planes, stride): each row of pixels holds its planes one after the other. Pixels outside the
// map and the rest of each row are zero.
struct Box {
    float* data;
    std::int64_t begin[3];   // of the first pixel, may be negative
    std::int64_t extent[3];  // pixels
    std::int64_t stride;     // floats from one plane of a row to the next: a multiple of the vector plus the halo
    std::int64_t planes;

    std::int64_t line() const { return planes * stride; }
    float* row(std::int64_t d, std::int64_t h) const { return data + (d * extent[1] + h) * line(); }
    std::int64_t floats() const { return extent[0] * extent[1] * line(); }
};

Box tile_box(float* data, const AttentionTile& tile, std::int64_t planes) {
    return {data,
            {tile.begin[0], tile.begin[1], tile.begin[2]},
            {tile.extent[0], tile.extent[1], tile.extent[2]},
            round_up(tile.extent[2], lanes),
            planes};
}

Box halo_box(float* data, const AttentionShape& s, const AttentionTile& tile, std::int64_t planes) {
    Box box = tile_box(data, tile, planes);
    for (int a = 0; a < 3; ++a) {
        box.begin[a] -= s.radius[a];
        box.extent[a] += 2 * s.radius[a];
    }
    box.stride += 2 * s.radius[2];
    return box;
}

// Calls body(row of the box, pixel index of its first pixel inside, its place in the row, pixels inside) for the rows
// that meet the map, after all of the box was set to zero.
template <class Body>
COVER_INLINE void fill_box(const Box& box, const AttentionShape& s, Body body) {
    const std::int64_t skip = box.begin[2] < 0 ? -box.begin[2] : 0;
    const std::int64_t end = box.begin[2] + box.extent[2] > s.sides[2] ? s.sides[2] : box.begin[2] + box.extent[2];
    const std::int64_t inside = end - (box.begin[2] + skip);
    for (std::int64_t d = 0; d < box.extent[0]; ++d) {
        for (std::int64_t h = 0; h < box.extent[1]; ++h) {
            const std::int64_t z = box.begin[0] + d, y = box.begin[1] + h;
            __builtin_memset(box.row(d, h), 0, sizeof(float) * static_cast<std::size_t>(box.line()));
            if (z < 0 || z >= s.sides[0] || y < 0 || y >= s.sides[1] || inside <= 0) continue;
            body(box.row(d, h), (z * s.sides[1] + y) * s.sides[2] + box.begin[2] + skip, skip, inside);
        }
    }
}

void fill_channels(const Box& box, const float* from, const AttentionShape& s) {
    fill_box(box, s, [&](float* row, std::int64_t pixel, std::int64_t skip, std::int64_t inside) {
        transpose(row + skip, box.stride, from + pixel * box.planes, box.planes, inside, box.planes);
    });
}

// One vector of pixels of one head. `own` points to its first feature in the tile's box, `other` to the first feature
// of the same pixels' neighbour at offset (-radius, -radius, -radius) in the halo's box.
struct Site {
    const float* own;
    std::int64_t own_stride;  // from one feature of the head to the next
    const float* other;
    std::int64_t other_stride;
    std::int64_t other_row, other_plane;  // one step along H, along D
};

// Calls body(window index, offset d, h, w) over the window, first axis slowest.
template <class Body>
COVER_INLINE void for_offsets(const AttentionShape& s, Body body) {
    int o = 0;
    for (int d = -s.radius[0]; d <= s.radius[0]; ++d)
        for (int h = -s.radius[1]; h <= s.radius[1]; ++h)
            for (int w = -s.radius[2]; w <= s.radius[2]; ++w, ++o) body(o, d, h, w);
}

// The same with each neighbour's place in the halo: body(window index, pointer, offset d, h, w). `corner` belongs to
// the neighbour at offset (-radius, -radius, -radius).
template <class Body>
COVER_INLINE void for_window(const AttentionShape& s, const float* corner, std::int64_t row, std::int64_t plane,
                             Body body) {
    int o = 0;
    for (int d = -s.radius[0]; d <= s.radius[0]; ++d) {
        for (int h = -s.radius[1]; h <= s.radius[1]; ++h) {
            const float* line = corner + (d + s.radius[0]) * plane + (h + s.radius[1]) * row;
            for (int w = -s.radius[2]; w <= s.radius[2]; ++w, ++o) body(o, line + w + s.radius[2], d, h, w);
        }
    }
}

// logits[o] (+)= scale * sum over `features` features of own * other(o).
template <int L, int features>
COVER_INLINE void add_logits(Float<L>* logits, const Site& site, const AttentionShape& s, int first, float scale) {
    Float<L> own[features];
    for (int f = 0; f < features; ++f) own[f] = load<L>(site.own + (first + f) * site.own_stride) * scale;
    const std::int64_t stride = site.other_stride;
    for_window(
        s, site.other + first * stride, site.other_row,
        site.other_plane, [&](int o, const float* other, int, int, int) __attribute__((always_inline)) {
            Float<L> sum = own[0] * load<L>(other);
            for (int f = 1; f < features; ++f) sum += own[f] * load<L>(other + f * stride);
            logits[o] = first == 0 ? sum : logits[o] + sum;
        });
}

// out[f] = sum over the window of weights[o] * other(o), for `features` features.
template <int L, int features>
COVER_INLINE void weighted_sums(float* out, std::int64_t out_stride, const Float<L>* weights, const Site& site,
                                const AttentionShape& s, int first) {
    Float<L> sums[features] = {};
    const std::int64_t stride = site.other_stride;
    for_window(
        s, site.other + first * stride, site.other_row,
        site.other_plane, [&](int o, const float* other, int, int, int) __attribute__((always_inline)) {
            const Float<L> weight = weights[o];
            for (int f = 0; f < features; ++f) sums[f] += weight * load<L>(other + f * stride);
        });
    for (int f = 0; f < features; ++f) store<L>(out + (first + f) * out_stride, sums[f]);
}

// Calls body.template operator()<features>(first) over the features of a head.
template <class Body>
COVER_INLINE void for_features(int head_dim, Body body) {
    int first = 0;
    for (; first + 8 <= head_dim; first += 8) body.template operator()<8>(first);
    for (; first + 4 <= head_dim; first += 4) body.template operator()<4>(first);
    for (; first < head_dim; ++first) body.template operator()<1>(first);
}

template <int L>
void all_logits(Float<L>* logits, const Site& site, const AttentionShape& s, float scale) {
    for_features(
        s.head_dim, [&]<int features>(int first)
                        __attribute__((always_inline)) { add_logits<L, features>(logits, site, s, first, scale); });
}

template <int L>
void all_weighted_sums(float* out, std::int64_t out_stride, const Float<L>* weights, const Site& site,
                       const AttentionShape& s) {
    for_features(
        s.head_dim, [&]<int features>(int first) __attribute__((always_inline)) {
            weighted_sums<L, features>(out, out_stride, weights, site, s, first);
        });
}

// Logits of neighbours outside the map become -1000. (z, y, x) is the vector's first pixel in the map.
template <int L>
void mask_outside(Float<L>* logits, const AttentionShape& s, std::int64_t z, std::int64_t y, std::int64_t x) {
    const Float<L> outside = splat<L>(-1000.0f);
    const Int<L> column = lane_numbers<L>() + static_cast<std::int32_t>(x);
    const auto width = static_cast<std::int32_t>(s.sides[2]);
    for_offsets(
        s, [&](int o, int d, int h, int w) __attribute__((always_inline)) {
            if (z + d < 0 || z + d >= s.sides[0] || y + h < 0 || y + h >= s.sides[1])
                logits[o] = outside;
            else
                logits[o] = ((column + w) >= 0) & ((column + w) < width) ? logits[o] : outside;
        });
}

// Exponentials take the place of the logits.
template <int L>
struct Softmax {
    Float<L> largest, sum;
    Float<L> moments[3];  // sums of exponential * offset, (D, H, W)
};

template <int L>
COVER_INLINE Softmax<L> softmax(Float<L>* logits, const AttentionShape& s) {
    Softmax<L> out{};
    out.largest = logits[0];
    const int width = 2 * s.radius[2] + 1;
    const int window = (2 * s.radius[0] + 1) * (2 * s.radius[1] + 1) * width;
    for (int o = 1; o < window; ++o) out.largest = maximum<L>(out.largest, logits[o]);
    int o = 0;
    for (int d = -s.radius[0]; d <= s.radius[0]; ++d) {
        for (int h = -s.radius[1]; h <= s.radius[1]; ++h) {
            Float<L> sum{}, along{};
            for (int w = -s.radius[2]; w <= s.radius[2]; ++w, ++o) {
                const Float<L> e = exponential<L>(logits[o] - out.largest);
                logits[o] = e;
                sum += e;
                along += e * static_cast<float>(w);
            }
            out.sum += sum;
            out.moments[2] += along;
            out.moments[1] += sum * static_cast<float>(h);
            out.moments[0] += sum * static_cast<float>(d);
        }
    }
    return out;
}

// Where the scratch memory goes: the tile's box, the halo's box, then the window and one vector of pixels' results.
struct Scratch {
    Box own, other;
    float *window, *result;
};

std::int64_t window_floats(const AttentionShape& s) {
    return std::int64_t{2 * s.radius[0] + 1} * (2 * s.radius[1] + 1) * (2 * s.radius[2] + 1) * lanes;
}

Scratch cut(float* scratch, const AttentionShape& s, const AttentionTile& tile, std::int64_t own_planes,
            std::int64_t other_planes) {
    Scratch out;
    out.window = scratch;  // first, for its alignment
    out.result = out.window + window_floats(s);
    out.own = tile_box(out.result + s.heads * s.head_dim * lanes, tile, own_planes);
    out.other = halo_box(out.own.data + out.own.floats(), s, tile, other_planes);
    return out;
}

// Planes of the halo in the gradient of k: q, dy and the statistics.
std::int64_t halo_planes(const AttentionShape& s) {
    return std::int64_t{s.heads} * (s.head_dim + attention_statistics) + s.spatial_dims;
}

std::int64_t scratch_floats(const AttentionShape& s) {
    const AttentionTile tile = {{0, 0, 0}, {s.tile[0], s.tile[1], s.tile[2]}};
    const std::int64_t channels = std::int64_t{s.heads} * s.head_dim;
    return window_floats(s) + channels * lanes + tile_box(nullptr, tile, channels).floats() +
           halo_box(nullptr, s, tile, halo_planes(s)).floats();
}

bool at_edge(const AttentionShape& s, const std::int64_t (&first)[3], std::int64_t pixels) {
    const std::int64_t last[3] = {first[0], first[1], first[2] + pixels - 1};
    for (int a = 0; a < 3; ++a)
        if (first[a] < s.radius[a] || last[a] + s.radius[a] >= s.sides[a]) return true;
    return false;
}

// Calls body(d, h, w in the tile; pixels that count) for every vector of pixels of a tile.
template <int L, class Body>
COVER_INLINE void for_vectors(const AttentionTile& tile, Body body) {
    for (std::int64_t d = 0; d < tile.extent[0]; ++d)
        for (std::int64_t h = 0; h < tile.extent[1]; ++h)
            for (std::int64_t w = 0; w < tile.extent[2]; w += L)
                body(d, h, w, tile.extent[2] - w < L ? tile.extent[2] - w : std::int64_t{L});
}

Site site_at(const Scratch& scratch, const AttentionShape& s, int head, std::int64_t d, std::int64_t h,
             std::int64_t w) {
    const Box &own = scratch.own, &other = scratch.other;
    return {own.row(d, h) + head * own.stride + w,
            s.heads * own.stride,
            other.row(d, h) + head * other.stride + w,
            s.heads * other.stride,
            other.line(),
            other.extent[1] * other.line()};
}

template <int L>
void forward_tile(float* y, const float* q, const float* k, const AttentionShape& s, const AttentionTile& tile,
                  float* memory) {
    const std::int64_t channels = std::int64_t{s.heads} * s.head_dim;
    const Scratch scratch = cut(memory, s, tile, channels, channels);
    fill_channels(scratch.own, q, s);
    fill_channels(scratch.other, k, s);
    auto* logits = reinterpret_cast<Float<L>*>(scratch.window);
    const float scale = 1 / __builtin_sqrtf(static_cast<float>(s.head_dim));
    const int nd = s.spatial_dims;
    for_vectors<L>(tile, [&](std::int64_t d, std::int64_t h, std::int64_t w, std::int64_t pixels) {
        const std::int64_t at[3] = {tile.begin[0] + d, tile.begin[1] + h, tile.begin[2] + w};
        const bool edge = at_edge(s, at, pixels);
        Float<L> mean[3] = {};
        for (int head = 0; head < s.heads; ++head) {
            all_logits<L>(logits, site_at(scratch, s, head, d, h, w), s, scale);
            if (edge) mask_outside<L>(logits, s, at[0], at[1], at[2]);
            const Softmax<L> soft = softmax<L>(logits, s);
            for (int a = 0; a < 3; ++a) mean[a] += soft.moments[a] / soft.sum;
        }
        float* to = y + ((at[0] * s.sides[1] + at[1]) * s.sides[2] + at[2]) * nd;
        for (int a = 0; a < nd; ++a) {
            const Float<L> component = mean[3 - nd + a] * (1.0f / static_cast<float>(s.heads));
            for (std::int64_t lane = 0; lane < pixels; ++lane) to[lane * nd + a] = component[lane];
        }
    });
}

template <int L>
void backward_query_tile(float* dq, float* statistics, const float* dy, const float* q, const float* k,
                         const AttentionShape& s, const AttentionTile& tile, float* memory) {
    const std::int64_t channels = std::int64_t{s.heads} * s.head_dim, all = s.sides[0] * s.sides[1] * s.sides[2];
    const Scratch scratch = cut(memory, s, tile, channels, channels);
    fill_channels(scratch.own, q, s);
    fill_channels(scratch.other, k, s);
    auto* logits = reinterpret_cast<Float<L>*>(scratch.window);
    const float scale = 1 / __builtin_sqrtf(static_cast<float>(s.head_dim));
    const int nd = s.spatial_dims;
    for_vectors<L>(tile, [&](std::int64_t d, std::int64_t h, std::int64_t w, std::int64_t pixels) {
        const std::int64_t at[3] = {tile.begin[0] + d, tile.begin[1] + h, tile.begin[2] + w};
        const std::int64_t pixel = (at[0] * s.sides[1] + at[1]) * s.sides[2] + at[2];
        const bool edge = at_edge(s, at, pixels);
        Float<L> g[3] = {};
        for (int a = 0; a < nd; ++a)
            for (std::int64_t lane = 0; lane < pixels; ++lane) g[3 - nd + a][lane] = dy[(pixel + lane) * nd + a];
        for (int head = 0; head < s.heads; ++head) {
            const Site site = site_at(scratch, s, head, d, h, w);
            all_logits<L>(logits, site, s, scale);
            if (edge) mask_outside<L>(logits, s, at[0], at[1], at[2]);
            const Softmax<L> soft = softmax<L>(logits, s);
            const Float<L> inverse = splat<L>(scale / static_cast<float>(s.heads)) / soft.sum;
            const Float<L> along =
                (g[0] * soft.moments[0] + g[1] * soft.moments[1] + g[2] * soft.moments[2]) / soft.sum;
            const Float<L> facts[attention_statistics] = {soft.largest, inverse, along};
            for (int i = 0; i < attention_statistics; ++i)
                for (std::int64_t lane = 0; lane < pixels; ++lane)
                    statistics[(head * attention_statistics + i) * all + pixel + lane] = facts[i][lane];
            for_offsets(
                s, [&](int o, int zo, int yo, int xo) __attribute__((always_inline)) {
                    const Float<L> projected =
                        g[0] * static_cast<float>(zo) + g[1] * static_cast<float>(yo) + g[2] * static_cast<float>(xo);
                    logits[o] = logits[o] * inverse * (projected - along);
                });
            all_weighted_sums<L>(scratch.result + head * L, std::int64_t{s.heads} * L, logits, site, s);
        }
        transpose(dq + pixel * channels, channels, scratch.result, L, channels, pixels);
    });
}

template <int L>
void backward_key_tile(float* dk, const float* statistics, const float* dy, const float* q, const float* k,
                       const AttentionShape& s, const AttentionTile& tile, float* memory) {
    const std::int64_t channels = std::int64_t{s.heads} * s.head_dim, all = s.sides[0] * s.sides[1] * s.sides[2];
    const int nd = s.spatial_dims;
    // The halo holds q, then dy, then the statistics of each head. Outside the map the factor scale / sum is zero,
    // and with it whatever such a query would contribute.
    const Scratch scratch = cut(memory, s, tile, channels, halo_planes(s));
    const Box& halo = scratch.other;
    fill_channels(scratch.own, k, s);
    fill_box(halo, s, [&](float* row, std::int64_t pixel, std::int64_t skip, std::int64_t inside) {
        float* to = row + skip;
        transpose(to, halo.stride, q + pixel * channels, channels, inside, channels);
        transpose(to + channels * halo.stride, halo.stride, dy + pixel * nd, nd, inside, nd);
        for (std::int64_t i = 0; i < s.heads * attention_statistics; ++i)
            __builtin_memcpy(to + (channels + nd + i) * halo.stride, statistics + i * all + pixel,
                             sizeof(float) * static_cast<std::size_t>(inside));
    });
    auto* logits = reinterpret_cast<Float<L>*>(scratch.window);
    const float scale = 1 / __builtin_sqrtf(static_cast<float>(s.head_dim));
    for_vectors<L>(tile, [&](std::int64_t d, std::int64_t h, std::int64_t w, std::int64_t pixels) {
        const std::int64_t pixel =
            ((tile.begin[0] + d) * s.sides[1] + tile.begin[1] + h) * s.sides[2] + tile.begin[2] + w;
        for (int head = 0; head < s.heads; ++head) {
            const Site site = site_at(scratch, s, head, d, h, w);
            all_logits<L>(logits, site, s, scale);
            // The neighbour at offset e sees this pixel at offset -e.
            const float* gradient = halo.row(d, h) + channels * halo.stride + w;
            const float* facts = gradient + (nd + head * attention_statistics) * halo.stride;
            for_window(
                s, facts, site.other_row,
                site.other_plane, [&](int o, const float* of, int zo, int yo, int xo) __attribute__((always_inline)) {
                    const float* g = gradient + (of - facts);
                    Float<L> projected = load<L>(g + (nd - 2) * halo.stride) * static_cast<float>(yo) +
                                         load<L>(g + (nd - 1) * halo.stride) * static_cast<float>(xo);
                    if (nd == 3) projected += load<L>(g) * static_cast<float>(zo);
                    const Float<L> p = exponential<L>(logits[o] - load<L>(of)) * load<L>(of + halo.stride);
                    logits[o] = p * (-projected - load<L>(of + 2 * halo.stride));
                });
            all_weighted_sums<L>(scratch.result + head * L, std::int64_t{s.heads} * L, logits, site, s);
        }
        transpose(dk + pixel * channels, channels, scratch.result, L, channels, pixels);
    });
}

// Narrow tiles take the narrow vector.
bool narrow(const AttentionTile& tile) { return tile.extent[2] <= 8; }

void forward(float* y, const float* q, const float* k, const AttentionShape& shape, const AttentionTile& tile,
             float* scratch) {
    if (narrow(tile))
        forward_tile<8>(y, q, k, shape, tile, scratch);
    else
        forward_tile<lanes>(y, q, k, shape, tile, scratch);
}

void backward_query(float* dq, float* statistics, const float* dy, const float* q, const float* k,
                    const AttentionShape& shape, const AttentionTile& tile, float* scratch) {
    if (narrow(tile))
        backward_query_tile<8>(dq, statistics, dy, q, k, shape, tile, scratch);
    else
        backward_query_tile<lanes>(dq, statistics, dy, q, k, shape, tile, scratch);
}

void backward_key(float* dk, const float* statistics, const float* dy, const float* q, const float* k,
                  const AttentionShape& shape, const AttentionTile& tile, float* scratch) {
    if (narrow(tile))
        backward_key_tile<8>(dk, statistics, dy, q, k, shape, tile, scratch);
    else
        backward_key_tile<lanes>(dk, statistics, dy, q, k, shape, tile, scratch);
}

}  // namespace

extern const LocalAttentionKernels local_attention_kernels;
const LocalAttentionKernels local_attention_kernels = {scratch_floats, forward, backward_query, backward_key};

}  // namespace cover::cpu::COVER_ISA
