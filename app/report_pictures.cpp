#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "app/report_parts.h"
#include "core/check.h"
#include "data/image.h"

namespace cover::app {
namespace {

using Pixels = std::vector<unsigned char>;

std::string png_image(const Pixels& rgb, int width, int height, const std::string& about) {
    const std::string png = encode_png(width, height, rgb.data());
    return fmt::format("<img alt=\"{}\" width=\"{}\" height=\"{}\" src=\"data:image/png;base64,{}\">", escaped(about),
                       width, height, base64(png));
}

unsigned char shade(double value) {
    return static_cast<unsigned char>(std::lround(255 * std::clamp(std::isfinite(value) ? value : 0.0, 0.0, 1.0)));
}

Pixels gray_pixels(const std::vector<float>& image) {
    Pixels rgb(image.size() * 3);
    for (std::size_t i = 0; i < image.size(); ++i)
        std::fill_n(rgb.begin() + static_cast<long>(3 * i), 3, shade(image[i]));
    return rgb;
}

// What lies outside the mask turns orange.
Pixels masked_pixels(const std::vector<float>& image, const std::vector<float>& mask) {
    Pixels rgb = gray_pixels(image);
    constexpr double tint[3] = {230, 120, 20};
    for (std::size_t i = 0; i < image.size(); ++i)
        if (!(mask[i] > 0.5f))
            for (std::size_t c = 0; c < 3; ++c)
                rgb[3 * i + c] = static_cast<unsigned char>(0.45 * rgb[3 * i + c] + 0.55 * tint[c]);
    return rgb;
}

Pixels field_pixels(const std::vector<float>& field, const std::vector<float>& mask, double longest) {
    Pixels rgb(mask.size() * 3);
    for (std::size_t i = 0; i < mask.size(); ++i) {
        wheel_colour(field[2 * i], field[2 * i + 1], longest, &rgb[3 * i]);
        if (!(mask[i] > 0.5f))  // no score there: half way to gray
            for (std::size_t c = 0; c < 3; ++c)
                rgb[3 * i + c] = static_cast<unsigned char>((rgb[3 * i + c] + 2 * 128) / 3);
    }
    return rgb;
}

// One arrow per cell of about a sixteenth of the side; `gain` turns pixels of displacement into pixels of the picture.
std::string arrows(const std::vector<float>& field, int height, int width, double gain) {
    const int cell = std::max(std::max(height, width) / 14, 1);
    const double head = 0.28 * cell;
    std::string path;
    for (int y = cell / 2; y < height; y += cell)
        for (int x = cell / 2; x < width; x += cell) {
            const auto i =
                2 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x));
            const double dy = field[i] * gain, dx = field[i + 1] * gain, length = std::hypot(dx, dy);
            if (!(length > 0.1) || !std::isfinite(length)) continue;
            const double x1 = x + 0.5 + dx, y1 = y + 0.5 + dy;
            path += fmt::format("M{:.1f} {:.1f}L{:.1f} {:.1f}", x + 0.5, y + 0.5, x1, y1);
            const double size = std::min(head, length * 0.6), angle = std::atan2(dy, dx);
            for (const double turn : {2.6, -2.6})
                path += fmt::format("M{:.1f} {:.1f}L{:.1f} {:.1f}", x1, y1, x1 + size * std::cos(angle + turn),
                                    y1 + size * std::sin(angle + turn));
        }
    return fmt::format(
        "<svg class=\"arrows\" viewBox=\"0 0 {} {}\" aria-hidden=\"true\"><path d=\"{}\" "
        "stroke-width=\"{:.2f}\"/></svg>",
        width, height, path, std::max(width, height) / 220.0);
}

std::string panel(const std::string& name, const std::string& content) {
    return "<figure class=\"panel\"><div class=\"stack\">" + content + "</div><figcaption>" + escaped(name) +
           "</figcaption></figure>";
}

std::string wheel_legend(double longest) {
    constexpr int side = 120;
    Pixels rgb(3 * side * side);
    for (int y = 0; y < side; ++y)
        for (int x = 0; x < side; ++x) {
            const double down = (y + 0.5) / side * 2 - 1, right = (x + 0.5) / side * 2 - 1;
            unsigned char* pixel = &rgb[3 * static_cast<std::size_t>(y * side + x)];
            if (std::hypot(down, right) <= 1)
                wheel_colour(down, right, 1, pixel);
            else
                std::fill_n(pixel, 3, static_cast<unsigned char>(128));
        }
    return "<figure class=\"panel wheel\"><div class=\"stack\">" +
           png_image(rgb, side, side, "colour wheel: hue is direction, strength is length") +
           fmt::format(
               "</div><figcaption>Colour: direction in the picture. At the rim {:.3g} pixels or more, white is "
               "no displacement.</figcaption></figure>",
               longest);
}

// The length that 98 % of the valid pixels stay below: a few far ones must not wash out the rest.
double usual_longest(const ViewPair& pair) {
    std::vector<double> lengths;
    for (std::size_t i = 0; i < pair.mask.size(); ++i) {
        const double length = std::hypot(pair.truth[2 * i], pair.truth[2 * i + 1]);
        if (pair.mask[i] > 0.5f && std::isfinite(length)) lengths.push_back(length);
    }
    if (lengths.empty()) return 1;
    const auto at = lengths.begin() + static_cast<long>((lengths.size() - 1) * 98 / 100);
    std::nth_element(lengths.begin(), at, lengths.end());
    return std::max(*at, 1e-3);
}

}  // namespace

std::string base64(std::string_view bytes) {
    constexpr char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    const auto byte = [&](std::size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t left = std::min<std::size_t>(bytes.size() - i, 3);
        const unsigned word = byte(i) << 16 | byte(i + 1) << 8 | byte(i + 2);
        for (std::size_t k = 0; k < 4; ++k) out += k <= left ? letters[(word >> (18 - 6 * k)) & 63u] : '=';
    }
    return out;
}

void wheel_colour(double down, double right, double longest, unsigned char rgb[3]) {
    const double length = std::hypot(down, right);
    if (!std::isfinite(length)) {
        std::fill_n(rgb, 3, static_cast<unsigned char>(0));
        return;
    }
    const double saturation = longest > 0 ? std::min(length / longest, 1.0) : 0.0;
    const double sixth = std::atan2(-down, right) * 3 / std::numbers::pi;  // (-3, 3]
    const double hue[3] = {0, 2, 4};                                       // red points right, counter-clockwise
    for (int c = 0; c < 3; ++c) {
        double distance = std::abs(sixth - hue[c]);
        distance = std::min(distance, 6 - distance);
        const double full = std::clamp(2 - distance, 0.0, 1.0);
        rgb[c] = shade(1 - saturation * (1 - full));
    }
}

std::string pair_figures(const ViewPair& pair) {
    const auto pixels = static_cast<std::size_t>(pair.height) * static_cast<std::size_t>(pair.width);
    require(pair.moving.size() == pixels && pair.fixed.size() == pixels && pair.mask.size() == pixels &&
                pair.truth.size() == 2 * pixels && pair.predicted.size() == 2 * pixels,
            ErrorKind::internal, "[report] the pictures of a pair do not have its ", pair.height, " x ", pair.width,
            " pixels");
    const int h = pair.height, w = pair.width;
    const double longest = usual_longest(pair);
    const double gain = std::min(1.0, std::max(h, w) / 9.0 / longest);

    std::string out = "<section class=\"pair\"><h3>" + escaped(pair.caption) + "</h3><div class=\"row\">";
    out += panel("View M: appearance changed", png_image(gray_pixels(pair.moving), w, h, "view M"));
    out += panel("View F: displaced", png_image(gray_pixels(pair.fixed), w, h, "view F"));
    out += panel("View F, orange where its source lies outside M: not in the loss",
                 png_image(masked_pixels(pair.fixed, pair.mask), w, h, "view F with the overlap mask"));
    out += "</div><div class=\"row\">";
    out +=
        panel("True displacement", png_image(field_pixels(pair.truth, pair.mask, longest), w, h, "true displacement") +
                                       arrows(pair.truth, h, w, gain));
    out += panel("Predicted displacement",
                 png_image(field_pixels(pair.predicted, pair.mask, longest), w, h, "predicted displacement") +
                     arrows(pair.predicted, h, w, gain));
    out += wheel_legend(longest);
    out += "</div>";
    out += fmt::format(
        "<p class=\"note\">Arrows are drawn at {:.3g} times their length; grayed pixels lie outside the "
        "overlap.</p></section>",
        gain);
    return out;
}

}  // namespace cover::app
