// The decoders behind image.h: raw samples, before any colour is mixed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cover {

struct RawImage {
    std::int64_t width = 0, height = 0;
    int channels = 1;  // 1 gray, 2 gray and alpha, 3 colours, 4 colours and alpha
    int bytes_per_sample = 1;
    bool colour = false;
    std::vector<unsigned char> samples;  // (H, W, C), 16-bit samples big-endian
};

// as_stored: neither stretches gray levels to 8 bits nor looks up a palette.
RawImage decode_png(std::string_view bytes, const std::string& name, bool as_stored);
// gray: the file's own luminance, where it has one.
RawImage decode_jpeg(std::string_view bytes, const std::string& name, bool gray);

// Throws Error(data) for sides that are no picture's, and for more samples than `bytes` bytes can hold at
// `samples_per_byte` each.
void check_size(const std::string& name, std::int64_t width, std::int64_t height, std::int64_t samples_per_pixel,
                std::int64_t bytes, std::int64_t samples_per_byte);

}  // namespace cover
