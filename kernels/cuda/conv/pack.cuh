// The weights of rung 5, rounded (to bfloat16, or to TF32) and laid out as the lanes of a warp hold them in fragments b
// of multiply_add_bf16 and multiply_add_tf32: what one lane reads with one load of 16 bytes lies together, and lanes
// lie side by side.
#pragma once

#include "kernels/cuda/conv/geometry.cuh"

namespace cover::cuda::COVER_CUDA_BUILD::conv {

// In the direction of the kernel that reads them: for a data gradient c_in is the convolution's c_out.
struct PackedWeights {
    int c_in, c_out, depth, plane_taps, chunks, output_tiles,
        groups;  // chunks: of the channels of a fragment; groups of 32 outputs
    bool transposed;

    COVER_HOST_DEVICE std::int64_t fragments() const {
        return std::int64_t{64} * output_tiles * depth * chunks * plane_taps * groups;
    }
};

// The output channel, of a group of 32, in column `column` of fragment j. So placed, a lane's sums over the four
// fragments are eight neighbouring channels, which it stores at once.
COVER_HOST_DEVICE constexpr int output_of_column(int j, int column) { return 8 * (column / 2) + 2 * j + column % 2; }

// packed (output tile, kernel depth, chunk, plane tap, group, fragment pair, lane, 16 bytes). One thread per 16 bytes.
// A word holds two channels as bfloat16, or one as TF32.
template <class T>
__global__ void pack_weights(T* packed, const float* weight, PackedWeights w) {
    constexpr int in_word = 4 / sizeof(T);
    const std::int64_t index = global_thread();
    if (index >= w.fragments()) return;
    const int lane = static_cast<int>(index % 32), pair = static_cast<int>(index / 32 % 2);
    std::int64_t rest = index / 64;
    const auto next = [&rest](int side) {
        const int digit = static_cast<int>(rest % side);
        rest /= side;
        return digit;
    };
    const int group = next(w.groups), plane_tap = next(w.plane_taps), chunk = next(w.chunks), kd = next(w.depth),
              tile = static_cast<int>(rest);
    const int tap = kd * w.plane_taps + plane_tap, last = w.depth * w.plane_taps - 1;
    unsigned words[4];
#pragma unroll
    for (int word = 0; word < 4; ++word) {
        unsigned values[in_word];
#pragma unroll
        for (int e = 0; e < in_word; ++e) {
            const int c = 8 * in_word * chunk + 4 * in_word * (word % 2) + in_word * (lane % 4) + e;
            const int o = 32 * (tile * w.groups + group) + output_of_column(2 * pair + word / 2, lane / 4);
            const bool inside = c < w.c_in && o < w.c_out;
            const std::int64_t at = w.transposed ? (static_cast<std::int64_t>(last - tap) * w.c_out + o) * w.c_in + c
                                                 : (static_cast<std::int64_t>(tap) * w.c_in + c) * w.c_out + o;
            if constexpr (in_word == 2)
                values[e] = bfloat16(inside ? weight[at] : 0.0f).bits;
            else
                values[e] = round_tf32(inside ? weight[at] : 0.0f);
        }
        words[word] = in_word == 2 ? values[0] | values[in_word - 1] << 16 : values[0];
    }
    reinterpret_cast<uint4*>(packed)[index] = make_uint4(words[0], words[1], words[2], words[3]);
}

}  // namespace cover::cuda::COVER_CUDA_BUILD::conv
