#include "data/image.h"

#include "tests/fuzz/targets.h"

namespace cover::fuzz {

void image(const unsigned char* data, std::size_t size) {
    const std::string_view bytes(reinterpret_cast<const char*>(data), size);
    // Pictures that are large and allowed to be: nothing new behind them, only time.
    if (is_png(bytes) && size > 24) {
        const auto side = [&](std::size_t at) {
            std::uint64_t n = 0;
            for (std::size_t i = at; i < at + 4; ++i) n = n << 8 | data[i];
            return n;
        };
        const std::uint64_t pixels = side(16) * side(20);
        if (pixels > (1u << 20) && pixels <= (1u << 28)) return;
    }
    const auto check = [](const Image& image, int channels) {
        if (image.width < 1 || image.height < 1 || image.channels != channels ||
            image.pixels.size() != static_cast<std::size_t>(image.width * image.height * channels))
            broken("an image of another size than it says");
        for (const float v : image.pixels)
            if (!(v >= 0 && v <= static_cast<float>(image.maximum))) broken("a pixel outside of its range");
    };
    for (const int channels : {1, 3})
        only(ErrorKind::data, [&] { check(decode_image(bytes, "fuzz", channels), channels); });
    only(ErrorKind::data, [&] { check(read_label_image(as_file(data, size)), 1); });
}

}  // namespace cover::fuzz
