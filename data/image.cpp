#include "data/image.h"

#include "core/check.h"
#include "core/file.h"
#include "data/image_raw.h"

namespace cover {

namespace {

constexpr std::uint64_t max_file_bytes = std::uint64_t{1} << 30;

float sample_at(const RawImage& raw, std::size_t index) {
    if (raw.bytes_per_sample == 1) return raw.samples[index];
    return static_cast<float>(raw.samples[2 * index] << 8 | raw.samples[2 * index + 1]);
}

}  // namespace

void check_size(const std::string& name, std::int64_t width, std::int64_t height, std::int64_t samples_per_pixel,
                std::int64_t bytes, std::int64_t samples_per_byte) {
    const std::int64_t limit = std::int64_t{1} << 28;
    require(width > 0 && height > 0 && width <= 65535 * 4 && height <= 65535 * 4 && width * height <= limit,
            ErrorKind::data, "[image] ", name, ": a picture of ", width, " x ", height,
            " pixels; at most 2^28 pixels are read");
    require(width * height * samples_per_pixel <= (bytes + 64) * samples_per_byte, ErrorKind::data, "[image] ", name,
            ": a picture of ", width, " x ", height, " pixels cannot lie in ", bytes, " bytes; the file is damaged");
}

bool is_png(std::string_view bytes) { return bytes.substr(0, 8) == std::string_view("\x89PNG\r\n\x1a\n", 8); }
bool is_jpeg(std::string_view bytes) { return bytes.substr(0, 3) == std::string_view("\xff\xd8\xff", 3); }

Image decode_image(std::string_view bytes, const std::string& name, int channels) {
    require(channels == 1 || channels == 3, ErrorKind::internal, "[image] ", channels, " channels were asked for");
    require(!bytes.empty(), ErrorKind::data, "[image] ", name, ": the file is empty");
    require(is_png(bytes) || is_jpeg(bytes), ErrorKind::data, "[image] ", name, ": neither a PNG nor a JPEG");
    const RawImage raw = is_png(bytes) ? decode_png(bytes, name, false) : decode_jpeg(bytes, name, channels == 1);
    Image out;
    out.width = raw.width;
    out.height = raw.height;
    out.channels = channels;
    out.maximum = raw.bytes_per_sample == 2 ? 65535 : 255;
    const auto pixels = static_cast<std::size_t>(raw.width * raw.height);
    const auto stored = static_cast<std::size_t>(raw.channels), wanted = static_cast<std::size_t>(channels);
    const bool alpha = raw.channels == 2 || raw.channels == 4;
    out.pixels.resize(pixels * wanted);
    for (std::size_t p = 0; p < pixels; ++p) {
        const std::size_t first = p * stored;
        const double opacity = alpha ? static_cast<double>(sample_at(raw, first + stored - 1)) / out.maximum : 1.0;
        double colour[3];
        for (std::size_t c = 0; c < 3; ++c) colour[c] = opacity * sample_at(raw, first + (raw.channels >= 3 ? c : 0));
        if (channels == 3)
            for (std::size_t c = 0; c < 3; ++c) out.pixels[3 * p + c] = static_cast<float>(colour[c]);
        else if (raw.channels < 3)
            out.pixels[p] = static_cast<float>(colour[0]);
        else
            out.pixels[p] = static_cast<float>(0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]);
    }
    return out;
}

Image read_image(const std::string& path, int channels) {
    return decode_image(read_file(path, max_file_bytes), path, channels);
}

Image read_label_image(const std::string& path) {
    const std::string bytes = read_file(path, max_file_bytes);
    require(is_png(bytes) || is_jpeg(bytes), ErrorKind::data, "[image] ", path, ": neither a PNG nor a JPEG");
    const RawImage raw = is_png(bytes) ? decode_png(bytes, path, true) : decode_jpeg(bytes, path, true);
    require(!raw.colour, ErrorKind::data, "[image] ", path,
            ": a label map has gray levels or a palette; this one has colours");
    Image out;
    out.width = raw.width;
    out.height = raw.height;
    out.maximum = raw.bytes_per_sample == 2 ? 65535 : 255;
    const auto pixels = static_cast<std::size_t>(raw.width * raw.height);
    out.pixels.resize(pixels);
    for (std::size_t p = 0; p < pixels; ++p) out.pixels[p] = sample_at(raw, p * static_cast<std::size_t>(raw.channels));
    return out;
}

}  // namespace cover
