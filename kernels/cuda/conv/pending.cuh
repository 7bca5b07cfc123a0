// How the fused convolutions of rung 5, and of rung 4 the weight gradient, bring their pixels to shared memory. What is
// pending on them is done on the way: a tile is asked for before the last one's products and finished behind them.
//
//   nothing      copied, as for a plain convolution
//   group norm   copied, then activated in place by the thread that copied, which needs no barrier
//   max_pool     read once more than there is room for: from global memory, when the tile is finished
//   up-sampling  a tile of the small grid is copied and activated, and the pixels are made of it behind a barrier, four
//                from the same four (2D)
//
// Arithmetic and roundings are those of the plain ops (norm.cu, pool.cu, resize.cu). T is the type of what is stored,
// bfloat16 or float32; a piece of 16 bytes is wide<T> channels.
#pragma once

#include "kernels/cuda/conv/halo.cuh"
#include "kernels/cuda/norm/channels.cuh"
#include "kernels/cuda/packs.h"
#include "kernels/cuda/resize/pairs.cuh"
#include "kernels/fused_conv.h"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// One part of the input. For tensor cores channels are multiples of 8, so that a piece of 16 bytes belongs to one part
// and one group.
template <class T>
struct PendingPart {
    const T* x;
    const float *mean, *rstd, *gamma, *beta;      // null where no group norm is pending
    int first, channels, groups, group_channels;  // first: among the channels of the convolution
    float slope;
    Resampling resampling;
    int d, h, w;  // the grid on which it is stored
};

// The second begins at c_in where there is none.
template <class T>
struct PendingParts {
    PendingPart<T> parts[2];
};

// Leaves them in shared memory, where a thread finds the part of its channels; visible behind the next block_sync.
template <class T>
__device__ void share(PendingPart<T>* shared, const PendingParts<T>& input) {
    if (threadIdx.x > 0) return;
    shared[0] = input.parts[0];
    shared[1] = input.parts[1];
}

// Pixels in shared memory: rows x columns with their halo, `channels` of each.
// loads: of a pooled pixel that a thread has under way.
template <class T, int side_, int rows_, int columns_, int channels_, int pitch_, int threads_, int loads_>
struct StagedPixels {
    using Element = T;
    static constexpr int rows = rows_, columns = columns_, channels = channels_, pitch = pitch_, threads = threads_,
                         loads = loads_;
    static constexpr int piece = wide<T>, pieces = channels / piece;
    static_assert(threads % pieces == 0, "a thread keeps its channels");
    // Of the small grid of an up-sampling. Outputs 2 p + 1 and 2 p + 2 are a pair; with a halo the first row is odd.
    static_assert(rows % 2 == 0 && columns % 2 == 0);
    static constexpr int pairs_h = rows / 2 + (side_ == 1), pairs_w = columns / 2 + (side_ == 1);
    static constexpr int small_rows = pairs_h + 1, small_columns = pairs_w + 1;
    static constexpr int small_count = small_rows * small_columns * channels;  // of one plane
};

// Where they come from: plane n D + d of the batch, the first row and column, which may be -1, the first channel.
struct StagedPlace {
    int plane, h, w, channel;
};

// What a thread has to do with its channels of a tile.
template <class T>
struct OwnPart {
    const PendingPart<T>* part;
    int channel;  // of the part
    bool exists;
};

template <class Staged, class T = typename Staged::Element>
__device__ OwnPart<T> own_part(const PendingPart<T>* parts, int c_in, const StagedPlace& at) {
    const int channel = at.channel + static_cast<int>(threadIdx.x) % Staged::pieces * Staged::piece;
    const PendingPart<T>* const part = parts + (channel >= parts[1].first);
    return {part, channel - part->first, channel < c_in};
}

// Calls body(its number, row and column, whether it is inside of the image) for the thread's pixels.
template <class Staged, class Body>
__device__ void for_own_pixels(const HaloTiles& t, const StagedPlace& at, const Body& body) {
#pragma unroll 1
    for (int pixel = static_cast<int>(threadIdx.x) / Staged::pieces; pixel < Staged::rows * Staged::columns;
         pixel += Staged::threads / Staged::pieces) {
        const int row = at.h + pixel / Staged::columns, column = at.w + pixel % Staged::columns;
        body(pixel, row, column,
             static_cast<unsigned>(row) < static_cast<unsigned>(t.h) &&
                 static_cast<unsigned>(column) < static_cast<unsigned>(t.w));
    }
}

// The same for the pixels of the small grid, of which those outside stand for the next inside.
template <class Staged, class Body>
__device__ void for_own_small_pixels(int planes, const Body& body) {
#pragma unroll 1
    for (int pixel = static_cast<int>(threadIdx.x) / Staged::pieces;
         pixel < planes * Staged::small_rows * Staged::small_columns; pixel += Staged::threads / Staged::pieces)
        body(pixel);
}

// An up-sampled plane of the image: between planes first and second (2D: the same) of the small grid.
struct SmallPlanes {
    int count;
    std::int64_t first, second;
    float left, right;
};

template <class T>
__device__ SmallPlanes small_planes(const PendingPart<T>& part, const HaloTiles& t, int plane) {
    if (part.d == t.d) return {1, plane, plane, 1, 0};
    const int n = plane / t.d, d = plane - n * t.d, pair = (d + 1) / 2 - 1, which = 1 - d % 2;
    const resize::Pair weights = resize::pair_of(pair, part.d, false);
    const std::int64_t sample = std::int64_t{n} * part.d;
    return {2, sample + resize::clamped(pair, part.d), sample + resize::clamped(pair + 1, part.d),
            which ? weights.left[1] : weights.left[0], which ? weights.right[1] : weights.right[0]};
}

__device__ inline int first_pair(int at) { return (at - 1) >> 1; }

// Whether channels [first, first + count) have up-sampled ones among them: the same for the whole block.
template <class T>
__device__ bool are_upsampled(const PendingPart<T>* parts, int first, int count) {
    return (parts[0].resampling == Resampling::upsample && first < parts[1].first) ||
           (parts[1].resampling == Resampling::upsample && first + count > parts[1].first);
}

// Asks for the copies of a tile. small: room for its pixels of the small grid.
template <class Staged, class T = typename Staged::Element>
__device__ void request_pixels(T* to, T* small, const PendingPart<T>* parts, const HaloTiles& t, int c_in,
                               const StagedPlace& at) {
    const OwnPart<T> own = own_part<Staged>(parts, c_in, at);
    const PendingPart<T>& part = *own.part;
    const int piece = static_cast<int>(threadIdx.x) % Staged::pieces;
    const T* const from = part.x + own.channel;
    if (!own.exists || part.resampling == Resampling::none) {
        const std::int64_t plane = std::int64_t{at.plane} * t.h;
        for_own_pixels<Staged>(t, at, [&](int pixel, int row, int column, bool inside) {
            const bool wanted = inside && own.exists;
            copy_async_16(to + pixel * Staged::pitch + Staged::piece * piece,
                          wanted ? from + ((plane + row) * t.w + column) * part.channels : part.x, wanted);
        });
    } else if (part.resampling == Resampling::upsample) {
        const SmallPlanes planes = small_planes(part, t, at.plane);
        const int h = first_pair(at.h), w = first_pair(at.w);
        for_own_small_pixels<Staged>(planes.count, [&](int pixel) {
            const int line = pixel / Staged::small_columns, row = line % Staged::small_rows;
            const std::int64_t plane = line < Staged::small_rows ? planes.first : planes.second;
            const std::int64_t place = (plane * part.h + resize::clamped(h + row, part.h)) * part.w +
                                       resize::clamped(w + pixel % Staged::small_columns, part.w);
            copy_async_16(small + pixel * Staged::channels + Staged::piece * piece, from + place * part.channels);
        });
    }
}

// What is pending on a thread's channels, those of a piece. Beside the sums of the products there is no room to keep
// gamma and beta in registers: they are read four at a time, from the L1 cache.
struct OwnNorm {
    float mean, rstd, slope;
    const float *gamma, *beta;

    template <class T>
    static __device__ OwnNorm of(const OwnPart<T>& own, int n) {
        const PendingPart<T>& part = *own.part;
        const int group = n * part.groups + own.channel / part.group_channels;
        return {part.mean[group], part.rstd[group], part.slope, part.gamma + own.channel, part.beta + own.channel};
    }
    __device__ norm::Channels<4> four(int first) const {
        norm::Channels<4> channels{mean, rstd, slope, {}, {}};
        load(channels.gamma, gamma + first);
        load(channels.beta, beta + first);
        return channels;
    }
};

__device__ inline void activate(float (&values)[4], const norm::Channels<4>& channels) {
#pragma unroll
    for (int k = 0; k < 4; ++k) values[k] = channels.activated(channels.normalised(values[k]), k);
}

// Four channels, sizeof(T) words, as float32, and back.
template <class T>
__device__ void unpack(float (&values)[4], const unsigned* words) {
#pragma unroll
    for (int k = 0; k < 4; ++k)
        if constexpr (std::is_same_v<T, float>)
            values[k] = std::bit_cast<float>(words[k]);
        else
            values[k] = std::bit_cast<float>(k % 2 ? words[k / 2] & 0xffff0000u : words[k / 2] << 16);
}
template <class T>
__device__ void pack(unsigned* words, const float (&values)[4]) {
    if constexpr (std::is_same_v<T, float>) {
#pragma unroll
        for (int k = 0; k < 4; ++k) words[k] = std::bit_cast<unsigned>(values[k]);
    } else {
        words[0] = round_bf16x2(values[0], values[1]);
        words[1] = round_bf16x2(values[2], values[3]);
    }
}

// The larger and the smaller of two words' channels, each for itself.
template <class T>
__device__ unsigned larger(unsigned a, unsigned b) {
    if constexpr (std::is_same_v<T, float>)
        return std::bit_cast<unsigned>(std::fmax(std::bit_cast<float>(a), std::bit_cast<float>(b)));
    else
        return max_bf16x2(a, b);
}
template <class T>
__device__ unsigned smaller(unsigned a, unsigned b) {
    if constexpr (std::is_same_v<T, float>)
        return std::bit_cast<unsigned>(std::fmin(std::bit_cast<float>(a), std::bit_cast<float>(b)));
    else
        return min_bf16x2(a, b);
}

template <class T>
__device__ void activate_in_place(T* piece, const OwnNorm& own) {
    const uint4 whole = *reinterpret_cast<const uint4*>(piece);
    unsigned words[4] = {whole.x, whole.y, whole.z, whole.w};
#pragma unroll
    for (int first = 0; first < wide<T>; first += 4) {
        unsigned* const four = words + first * static_cast<int>(sizeof(T)) / 4;
        float values[4];
        unpack<T>(values, four);
        activate(values, own.four(first));
        pack<T>(four, values);
    }
    *reinterpret_cast<uint4*>(piece) = make_uint4(words[0], words[1], words[2], words[3]);
}

// The thread's pixels of a pooled part. The affine map and the activation keep the order of values, or turn it around
// where gamma is negative, and rounding keeps it: so the largest value before them, or the smallest, is activated
// alone.
template <class Staged, class T = typename Staged::Element>
__device__ void pool_pixels(T* to, const OwnPart<T>& own, int n, const HaloTiles& t, const StagedPlace& at) {
    const PendingPart<T>& part = *own.part;
    const int planes = part.d == t.d ? 1 : 2, piece = static_cast<int>(threadIdx.x) % Staged::pieces;
    for_own_pixels<Staged>(t, at, [&](int pixel, int row, int column, bool inside) {
        unsigned largest[4] = {};
        if (inside) {
            unsigned smallest[4] = {};
#pragma unroll 1
            for (int plane = 0; plane < planes; ++plane) {
                const T* const corner =
                    part.x + own.channel +
                    (((std::int64_t{at.plane} * planes + plane) * part.h + 2 * row) * part.w + 2 * column) *
                        part.channels;
#pragma unroll(Staged::loads)
                for (int i = 0; i < 4; ++i) {
                    const uint4 piece_of = *reinterpret_cast<const uint4*>(corner + (i / 2 * part.w + i % 2) *
                                                                                        std::int64_t{part.channels});
                    const unsigned words[4] = {piece_of.x, piece_of.y, piece_of.z, piece_of.w};
                    const bool is_first = i == 0 && plane == 0;
#pragma unroll
                    for (int k = 0; k < 4; ++k) {
                        // A NaN is passed over, where the plain pool keeps one that comes first: statistics would be
                        // NaN already.
                        largest[k] = is_first ? words[k] : larger<T>(largest[k], words[k]);
                        smallest[k] = is_first ? words[k] : smaller<T>(smallest[k], words[k]);
                    }
                }
            }
            if (part.mean) {
                const OwnNorm pending = OwnNorm::of(own, n);  // late: the loads above need the registers
#pragma unroll
                for (int first = 0; first < wide<T>; first += 4) {
                    const int word = first * static_cast<int>(sizeof(T)) / 4;
                    const norm::Channels<4> channels = pending.four(first);
                    float values[4], least[4];
                    unpack<T>(values, largest + word);
                    unpack<T>(least, smallest + word);
#pragma unroll
                    for (int k = 0; k < 4; ++k) values[k] = channels.gamma[k] < 0 ? least[k] : values[k];
                    activate(values, channels);
                    pack<T>(largest + word, values);
                }
            }
        }
        *reinterpret_cast<uint4*>(to + pixel * Staged::pitch + Staged::piece * piece) =
            make_uint4(largest[0], largest[1], largest[2], largest[3]);
    });
}

// The up-sampled channels of a tile from its pixels of the small grid. A thread makes a pair of rows by a pair of
// columns, of four channels: of eight, registers would not last beside the sums of the products.
template <class Staged, class T = typename Staged::Element>
__device__ void upsample_pixels(T* to, const T* small, const PendingPart<T>* parts, const HaloTiles& t, int c_in,
                                const StagedPlace& at) {
    constexpr int quads = Staged::channels / 4;
    // Two up-sampled parts lie on the same grid.
    const PendingPart<T>& grid = parts[parts[1].resampling == Resampling::upsample];
    const bool is_volume = grid.d != t.d;
    const SmallPlanes planes = small_planes(grid, t, at.plane);
#pragma unroll 1
    for (int item = static_cast<int>(threadIdx.x); item < Staged::pairs_h * Staged::pairs_w * quads;
         item += Staged::threads) {
        const int quad = item % quads, pair = item / quads, pair_h = pair / Staged::pairs_w,
                  pair_w = pair % Staged::pairs_w, channel = at.channel + 4 * quad;
        if (parts[channel >= parts[1].first].resampling != Resampling::upsample || channel >= c_in) continue;
        const T* const corner = small + (pair_h * Staged::small_columns + pair_w) * Staged::channels + 4 * quad;
        float corners[2][2][4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
            load(corners[i / 2][i % 2], corner + (i / 2 * Staged::small_columns + i % 2) * Staged::channels);
        if (is_volume) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float behind[4];
                load(behind, corner + Staged::small_count + (i / 2 * Staged::small_columns + i % 2) * Staged::channels);
#pragma unroll
                for (int k = 0; k < 4; ++k)
                    corners[i / 2][i % 2][k] =
                        std::fma(planes.right, behind[k], planes.left * corners[i / 2][i % 2][k]);
            }
        }
        const int ph = first_pair(at.h) + pair_h, pw = first_pair(at.w) + pair_w;
        const resize::Pair in_h = resize::pair_of(ph, grid.h, false), in_w = resize::pair_of(pw, grid.w, false);
#pragma unroll 1
        for (int k = 0; k < 2; ++k) {
            const int column = 2 * pw + 1 + k;
            const float left_w = k ? in_w.left[1] : in_w.left[0], right_w = k ? in_w.right[1] : in_w.right[0];
            float above[4], below[4];
#pragma unroll
            for (int c = 0; c < 4; ++c) {
                above[c] = std::fma(right_w, corners[0][1][c], left_w * corners[0][0][c]);
                below[c] = std::fma(right_w, corners[1][1][c], left_w * corners[1][0][c]);
            }
#pragma unroll
            for (int b = 0; b < 2; ++b) {
                const int row = 2 * ph + 1 + b;
                const bool inside = static_cast<unsigned>(row) < static_cast<unsigned>(t.h) &&
                                    static_cast<unsigned>(column) < static_cast<unsigned>(t.w);
                float result[4];
#pragma unroll
                for (int c = 0; c < 4; ++c)
                    result[c] = inside ? std::fma(in_h.right[b], below[c], in_h.left[b] * above[c]) : 0.0f;
                if (static_cast<unsigned>(row - at.h) < static_cast<unsigned>(Staged::rows) &&
                    static_cast<unsigned>(column - at.w) < static_cast<unsigned>(Staged::columns))
                    store(to + ((row - at.h) * Staged::columns + column - at.w) * Staged::pitch + 4 * quad, result);
            }
        }
    }
}

// Finishes a tile whose copies are there for the thread that asked. The whole block comes here; what it leaves is
// visible to the block behind the next block_sync.
template <class Staged, class T = typename Staged::Element>
__device__ void finish_pixels(T* to, T* small, const PendingPart<T>* parts, const HaloTiles& t, int c_in,
                              const StagedPlace& at) {
    const OwnPart<T> own = own_part<Staged>(parts, c_in, at);
    const PendingPart<T>& part = *own.part;
    const int piece = static_cast<int>(threadIdx.x) % Staged::pieces;
    const int n = at.plane / t.d;
    if (own.exists && part.resampling == Resampling::max_pool) {
        pool_pixels<Staged>(to, own, n, t, at);
    } else if (own.exists && part.mean) {
        const OwnNorm pending = OwnNorm::of(own, n);
        if (part.resampling == Resampling::upsample)
            for_own_small_pixels<Staged>(part.d == t.d ? 1 : 2, [&](int pixel) {
                activate_in_place(small + pixel * Staged::channels + Staged::piece * piece, pending);
            });
        else
            for_own_pixels<Staged>(t, at, [&](int pixel, int, int, bool inside) {
                if (inside) activate_in_place(to + pixel * Staged::pitch + Staged::piece * piece, pending);
            });
    }
    if (!are_upsampled(parts, at.channel, Staged::channels)) return;
    block_sync();  // the pixels of the small grid are there
    upsample_pixels<Staged>(to, small, parts, t, c_in, at);
}

// Host side.

// As without_neighbours(), but samples stay apart: what is pending and what is summed is theirs.
inline ConvParams fused_geometry(const FusedConvParams& p) {
    ConvParams flat = p.conv;
    const std::int64_t pixels = flat.grid.pixels();
    if (flat.kernel != 1 || p.parts[0].resampling != Resampling::none || p.parts[1].resampling != Resampling::none)
        return flat;
    for (const std::int64_t width : {16, 8})
        if (pixels % width == 0) {
            flat.grid = {2, 1, pixels / width, width};
            break;
        }
    return flat;
}

template <class T>
PendingParts<T> pending_parts(const PendingInput& input, const FusedConvParams& p) {
    PendingParts<T> sources{};
    int first = 0;
    for (int i = 0; i < 2; ++i) {
        const PendingParams& pending = p.parts[i];
        const Pending& views = input.parts[static_cast<std::size_t>(i)];
        const Grid grid = p.part_grid(i);
        PendingPart<T>& part = sources.parts[i];
        part.first = first;
        first += static_cast<int>(pending.channels);
        part.x = sources.parts[0].x;  // some address, where there is no such part
        if (pending.channels == 0) continue;
        part.x = views.x.as<T>();
        if (pending.groups > 0) {
            part.mean = views.mean.as<float>();
            part.rstd = views.rstd.as<float>();
            part.gamma = views.gamma.as<float>();
            part.beta = views.beta.as<float>();
            part.group_channels = static_cast<int>(pending.channels / pending.groups);
        }
        part.channels = static_cast<int>(pending.channels);
        part.groups = static_cast<int>(pending.groups);
        part.slope = static_cast<float>(pending.slope);
        part.resampling = pending.resampling;
        part.d = static_cast<int>(grid.d);
        part.h = static_cast<int>(grid.h);
        part.w = static_cast<int>(grid.w);
    }
    return sources;
}

// Elements that a kernel keeps for the small grid.
template <class Staged>
int small_elements(const FusedConvParams& p) {
    const bool any = p.parts[0].resampling == Resampling::upsample || p.parts[1].resampling == Resampling::upsample;
    return any ? (p.conv.grid.spatial_dims == 2 ? 1 : 2) * Staged::small_count : 0;
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
