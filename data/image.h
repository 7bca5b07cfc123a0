// PNG and JPEG in, PNG out. What a file promises is checked against its size before memory is asked for; a damaged file
// is an Error(data) with the file's name and the decoder's reason.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cover {

struct Image {
    std::int64_t width = 0, height = 0;
    int channels = 1;           // 1, or 3 for red, green, blue
    int maximum = 255;          // 255, or 65535 for 16 bits
    std::vector<float> pixels;  // (H, W, C), 0 to maximum
};

// By content, not by name.
bool is_png(std::string_view bytes);
bool is_jpeg(std::string_view bytes);

// Gray of 1 to 16 bits (stretched to 8 or kept at 16), palette, RGB, alpha (composited over black). channels = 1:
// colours become luminance 0.299 R + 0.587 G + 0.114 B, unrounded; channels = 3: gray is repeated.
// name stands in the sentences.
Image decode_image(std::string_view bytes, const std::string& name, int channels = 1);
Image read_image(const std::string& path, int channels = 1);

// A label map: gray levels and palette indices as they are stored, one channel; colours are refused.
Image read_label_image(const std::string& path);

// rgb: (H, W, 3). The whole PNG file, the same bytes for the same picture.
std::string encode_png(std::int64_t width, std::int64_t height, const unsigned char* rgb);

}  // namespace cover
