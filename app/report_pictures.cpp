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
using Field = std::vector<float>;

constexpr unsigned char outside = 128;  // gray of what lies outside the overlap

std::size_t pixels_of(const Plane& plane) {
    return static_cast<std::size_t>(plane.height) * static_cast<std::size_t>(plane.width);
}

void check_length(std::size_t length, const Plane& plane, std::size_t channels) {
    require(plane.height > 0 && plane.width > 0 && length == channels * pixels_of(plane), ErrorKind::internal,
            "[report] a picture has ", length, " values and not those of ", plane.height, " x ", plane.width,
            " pixels");
}

// A picture that is ready to be coloured: values (H, W, C), already averaged down to the size that it is shown in.
struct Raster {
    int height = 0, width = 0;
    std::vector<double> values;
};

// Mean over the area that each smaller pixel covers.
template <class Value>
Raster shrunk(const std::vector<Value>& from, const Plane& plane, std::size_t channels, int longest) {
    check_length(from.size(), plane, channels);
    const double factor = std::min(1.0, static_cast<double>(longest) / std::max(plane.height, plane.width));
    Raster out{std::max(1, static_cast<int>(std::lround(plane.height * factor))),
               std::max(1, static_cast<int>(std::lround(plane.width * factor))),
               {}};
    if (out.height == plane.height && out.width == plane.width) {
        out.values.assign(from.begin(), from.end());
        return out;
    }
    out.values.resize(static_cast<std::size_t>(out.height) * static_cast<std::size_t>(out.width) * channels);
    const double step_y = static_cast<double>(plane.height) / out.height,
                 step_x = static_cast<double>(plane.width) / out.width;
    double* to = out.values.data();
    for (int y = 0; y < out.height; ++y)
        for (int x = 0; x < out.width; ++x, to += channels) {
            const double y0 = y * step_y, y1 = y0 + step_y, x0 = x * step_x, x1 = x0 + step_x;
            double area = 0;
            for (int v = static_cast<int>(y0); v < plane.height && v < y1; ++v)
                for (int u = static_cast<int>(x0); u < plane.width && u < x1; ++u) {
                    const double share = (std::min(v + 1.0, y1) - std::max<double>(v, y0)) *
                                         (std::min(u + 1.0, x1) - std::max<double>(u, x0));
                    area += share;
                    for (std::size_t c = 0; c < channels; ++c)
                        to[c] += share * static_cast<double>(
                                             from[(static_cast<std::size_t>(v) * static_cast<std::size_t>(plane.width) +
                                                   static_cast<std::size_t>(u)) *
                                                      channels +
                                                  c]);
                }
            for (std::size_t c = 0; c < channels; ++c) to[c] /= area;
        }
    return out;
}

unsigned char shade(double value) {
    return static_cast<unsigned char>(std::lround(255 * std::clamp(std::isfinite(value) ? value : 0.0, 0.0, 1.0)));
}

std::string image(const Pixels& rgb, int height, int width, double pixel_aspect, const std::string& about,
                  const std::string& style_class = "") {
    std::string style = style_class.empty() ? "" : " class=\"" + style_class + "\"";
    if (std::abs(pixel_aspect - 1) > 1e-3)
        style += fmt::format(" style=\"aspect-ratio:{:.4f}\"", width * pixel_aspect / height);
    return fmt::format("<img alt=\"{}\" width=\"{}\" height=\"{}\"{} src=\"data:image/png;base64,{}\">", escaped(about),
                       width, height, style, base64(encode_png(width, height, rgb.data())));
}

std::string figure(const std::string& content, const std::string& caption) {
    return "<figure><div class=\"stack\">" + content + "</div><figcaption>" + escaped(caption) +
           "</figcaption></figure>";
}

std::string gray_image(const Field& values, const Plane& plane, const std::string& about, const PictureState& state,
                       const Field* mask = nullptr) {
    const Raster raster = shrunk(values, plane, 1, state.longest_side);
    const Raster shown = mask ? shrunk(*mask, plane, 1, state.longest_side) : Raster{};
    Pixels rgb(raster.values.size() * 3);
    for (std::size_t i = 0; i < raster.values.size(); ++i) {
        const unsigned char gray = shade(raster.values[i]);
        constexpr double tint[3] = {230, 120, 20};
        for (std::size_t c = 0; c < 3; ++c)
            rgb[3 * i + c] =
                mask && !(shown.values[i] > 0.5) ? static_cast<unsigned char>(0.45 * gray + 0.55 * tint[c]) : gray;
    }
    return image(rgb, raster.height, raster.width, plane.pixel_aspect, about);
}

// No score outside the mask: two thirds of the way to gray.
void gray_out(Pixels& rgb, const Field& mask, const Plane& plane, const PictureState& state) {
    const Raster shown = shrunk(mask, plane, 1, state.longest_side);
    for (std::size_t i = 0; i < shown.values.size(); ++i)
        if (!(shown.values[i] > 0.5))
            for (std::size_t c = 0; c < 3; ++c)
                rgb[3 * i + c] = static_cast<unsigned char>((rgb[3 * i + c] + 2 * outside) / 3);
}

// One arrow per cell, `cells` of them along the longest side; `gain` turns pixels of displacement into pixels of the
// picture.
std::string arrows(const Field& field, const Plane& plane, double gain, int cells, PictureState& state) {
    const int cell = std::max(std::max(plane.height, plane.width) / cells, 1);
    const double head = 0.28 * cell;
    std::string path;
    for (int y = cell / 2; y < plane.height; y += cell)
        for (int x = cell / 2; x < plane.width; x += cell) {
            const auto i =
                2 * (static_cast<std::size_t>(y) * static_cast<std::size_t>(plane.width) + static_cast<std::size_t>(x));
            const double dy = field[i] * gain, dx = field[i + 1] * gain, length = std::hypot(dx, dy);
            if (!(length > 0.04 * cell) || !std::isfinite(length)) continue;
            const double x1 = x + 0.5 + dx, y1 = y + 0.5 + dy;
            const double size = std::min(head, length * 0.6), angle = std::atan2(dy, dx);
            path += fmt::format("M{:.1f} {:.1f}L{:.1f} {:.1f}", x + 0.5, y + 0.5, x1, y1);
            path += fmt::format("M{:.1f} {:.1f}L{:.1f} {:.1f}L{:.1f} {:.1f}", x1 + size * std::cos(angle + 2.6),
                                y1 + size * std::sin(angle + 2.6), x1, y1, x1 + size * std::cos(angle - 2.6),
                                y1 + size * std::sin(angle - 2.6));
        }
    if (path.empty()) return path;
    const double stroke = cell / 16.0;
    const int id = state.next_id++;
    return fmt::format(
        "<svg class=\"arrows\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\" "
        "focusable=\"false\"><defs><path id=\"v{}\" d=\"{}\"/></defs><use href=\"#v{}\" class=\"halo\" "
        "stroke-width=\"{:.2f}\"/><use href=\"#v{}\" class=\"ink\" stroke-width=\"{:.2f}\"/></svg>",
        plane.width, plane.height, id, path, id, 2.8 * stroke, id, stroke);
}

std::string field_image(const Field& field, const Plane& plane, const Field* mask, double longest,
                        const std::string& about, int cells, double gain, PictureState& state) {
    const Raster raster = shrunk(field, plane, 2, state.longest_side);
    Pixels rgb(raster.values.size() / 2 * 3);
    for (std::size_t i = 0; i < rgb.size() / 3; ++i)
        wheel_colour(raster.values[2 * i], raster.values[2 * i + 1], longest, &rgb[3 * i]);
    if (mask) gray_out(rgb, *mask, plane, state);
    return image(rgb, raster.height, raster.width, plane.pixel_aspect, about) +
           arrows(field, plane, gain, cells, state);
}

// From 0 to 1: black, violet, orange, light yellow; the lightness only rises.
void ramp_colour(double share, unsigned char rgb[3]) {
    constexpr double stops[4][3] = {{0, 0, 0}, {0.45, 0.10, 0.45}, {0.95, 0.45, 0.15}, {1.0, 0.98, 0.75}};
    const double at = 3 * std::clamp(std::isfinite(share) ? share : 1.0, 0.0, 1.0);
    const int from = std::min(static_cast<int>(at), 2);
    for (int c = 0; c < 3; ++c) rgb[c] = shade(stops[from][c] + (at - from) * (stops[from + 1][c] - stops[from][c]));
}

std::string error_image(const PlaneViews& views, double longest, const std::string& about, const PictureState& state) {
    Field error;
    for (std::size_t i = 0; i < views.mask.size(); ++i)
        error.push_back(std::hypot(views.predicted[2 * i] - views.truth[2 * i],
                                   views.predicted[2 * i + 1] - views.truth[2 * i + 1]));
    const Raster raster = shrunk(error, views.plane, 1, state.longest_side);
    Pixels rgb(raster.values.size() * 3);
    for (std::size_t i = 0; i < raster.values.size(); ++i) ramp_colour(raster.values[i] / longest, &rgb[3 * i]);
    const Raster shown = shrunk(views.mask, views.plane, 1, state.longest_side);
    for (std::size_t i = 0; i < shown.values.size(); ++i)
        if (!(shown.values[i] > 0.5)) std::fill_n(rgb.begin() + static_cast<long>(3 * i), 3, outside);
    return image(rgb, raster.height, raster.width, views.plane.pixel_aspect, about);
}

std::string wheel_legend(double longest, double gain, bool volume) {
    constexpr int side = 104, ramp = 128;
    Pixels rgb(3 * side * side), line(3 * ramp);
    for (int y = 0; y < side; ++y)
        for (int x = 0; x < side; ++x)
            wheel_colour((y + 0.5) / side * 2 - 1, (x + 0.5) / side * 2 - 1, 1,
                         &rgb[3 * static_cast<std::size_t>(y * side + x)]);
    for (int x = 0; x < ramp; ++x) ramp_colour((x + 0.5) / ramp, &line[3 * static_cast<std::size_t>(x)]);
    const char* unit = volume ? "voxels" : "pixels";
    return "<div class=\"legend\">" +
           image(rgb, side, side, 1, "colour wheel: hue is direction, strength is length", "wheel") +
           fmt::format(
               "<div class=\"note\">Fields: hue is the direction in the picture, strength the length. White is no "
               "displacement, the rim of the wheel {:.3g} {} or more. Arrows are drawn at {:.2g} times their "
               "length. Grayed: outside the overlap, not in the loss.",
               longest, unit, gain) +
           image(line, 1, ramp, 1, "ramp from black to light yellow", "ramp") +
           fmt::format("Error: from 0 (black) to {:.3g} {} or more (light yellow).</div></div>", longest, unit);
}

// The length that 98 % of the pixels of the mask stay below: a few far ones must not wash out the rest.
void collect_lengths(const Field& field, const Field* mask, std::vector<double>& lengths) {
    for (std::size_t i = 0; i < field.size() / 2; ++i) {
        const double length = std::hypot(field[2 * i], field[2 * i + 1]);
        if ((!mask || (*mask)[i] > 0.5f) && std::isfinite(length)) lengths.push_back(length);
    }
}

double usual_longest(std::vector<double> lengths) {
    if (lengths.empty()) return 1;
    const auto at = lengths.begin() + static_cast<long>((lengths.size() - 1) * 98 / 100);
    std::nth_element(lengths.begin(), at, lengths.end());
    return std::max(*at, 1e-3);
}

double longest_of(const std::vector<ViewPair>& pairs) {
    std::vector<double> lengths;
    for (const auto& pair : pairs)
        for (const auto& views : pair.planes) {
            check_length(views.mask.size(), views.plane, 1);
            check_length(views.truth.size(), views.plane, 2);
            collect_lengths(views.truth, &views.mask, lengths);
        }
    return usual_longest(std::move(lengths));
}

// Arrows may cross about a ninth of the picture.
double gain_for(const Plane& plane, double longest) {
    return std::min(1.0, std::max(plane.height, plane.width) / 9.0 / longest);
}

bool is_volume(const ViewPair& pair) { return pair.planes.size() > 1; }

std::string heading(const Plane& plane) { return plane.name.empty() ? "" : "<h4>" + escaped(plane.name) + "</h4>"; }

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

std::string pair_figures(const std::vector<ViewPair>& pairs, PictureState& state) {
    const double longest = longest_of(pairs);
    const bool volume = is_volume(pairs.front());
    const char* unit = volume ? "voxels" : "pixels";
    const int cells = volume ? 9 : 14;
    double gain = 1;
    for (const auto& pair : pairs)
        for (const auto& views : pair.planes) gain = std::min(gain, gain_for(views.plane, longest));
    std::string out = wheel_legend(longest, gain, volume);
    for (const auto& pair : pairs) {
        out += "<section class=\"pair\"><h3>" + escaped(pair.caption) + "</h3>";
        out += fmt::format(
            "<p class=\"note\">{:.0f} % of the {} lie in the overlap. Mean error there {} {}, mean "
            "displacement {}.</p>",
            100 * pair.valid, unit, number_text(pair.epe, "{:.2f}"), unit, number_text(pair.length, "{:.2f}"));
        for (const auto& views : pair.planes) {
            const Plane& plane = views.plane;
            out += heading(plane) + (volume ? "<div class=\"row of6\">" : "<div class=\"row of3 large\">");
            out += figure(gray_image(views.moving, plane, "view M", state), "View M: appearance changed");
            out += figure(gray_image(views.fixed, plane, "view F", state), "View F: displaced");
            out += figure(gray_image(views.fixed, plane, "view F with the overlap mask", state, &views.mask),
                          "View F, orange where its source lies outside M");
            out +=
                figure(field_image(views.truth, plane, &views.mask, longest, "true displacement", cells, gain, state),
                       "True displacement");
            out += figure(
                field_image(views.predicted, plane, &views.mask, longest, "predicted displacement", cells, gain, state),
                "Predicted displacement");
            out += figure(error_image(views, longest, "length of the difference of both displacements", state),
                          "Error: length of the difference");
            out += "</div>";
        }
        out += "</section>\n";
    }
    return out;
}

std::string level_figures(const LevelStudy& study, const std::vector<ViewPair>& pairs, PictureState& state) {
    const ViewPair& pair = pairs.front();
    const double longest = longest_of(pairs);
    const char* unit = is_volume(pair) ? "voxels" : "pixels";
    std::string out = fmt::format(
        "<table class=\"narrow\"><caption>{}</caption><thead><tr><th scope=\"col\">Level</th><th "
        "scope=\"col\">Grid</th>"
        "<th scope=\"col\" class=\"n\">Adds at most</th><th scope=\"col\" class=\"n\">Added, mean</th><th "
        "scope=\"col\" class=\"n\">Error so far</th></tr></thead><tbody><tr><th scope=\"row\">none</th><td></td><td "
        "class=\"n\"></td><td class=\"n\"></td><td class=\"n\">{}</td></tr>",
        fmt::format("In {} of full resolution", unit), number_text(study.length, "{:.2f}"));
    for (std::size_t level = 0; level < study.levels.size(); ++level) {
        const LevelField& l = study.levels[level];
        out += fmt::format(
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"n\">&#177;{:g}</td><td class=\"n\">{}"
            "</td><td class=\"n\">{}</td></tr>",
            level + 1, escaped(l.grid), l.reach, number_text(l.added, "{:.2f}"), number_text(l.epe, "{:.2f}"));
    }
    out += "</tbody></table>";
    for (std::size_t p = 0; p < pair.planes.size(); ++p) {
        const PlaneViews& views = pair.planes[p];
        const Plane& plane = views.plane;
        std::string own, sum;
        for (std::size_t level = 0; level < study.levels.size(); ++level) {
            const LevelField& l = study.levels[level];
            require(l.own.size() > p && l.sum.size() > p, ErrorKind::internal, "[report] a level lacks a plane");
            check_length(l.own[p].size(), plane, 2);
            check_length(l.sum[p].size(), plane, 2);
            std::vector<double> lengths;
            collect_lengths(l.own[p], nullptr, lengths);
            const double rim = usual_longest(std::move(lengths));
            own += figure(field_image(l.own[p], plane, nullptr, rim, text("vectors of level ", level + 1, " alone"), 8,
                                      gain_for(plane, rim), state),
                          fmt::format("Level {} alone, rim {:.2g}", level + 1, rim));
            sum += figure(field_image(l.sum[p], plane, nullptr, longest, text("sum up to level ", level + 1), 8,
                                      gain_for(plane, longest), state),
                          level == 0 ? "Sum: level 1" : fmt::format("Sum up to level {}", level + 1));
        }
        sum += figure(
            field_image(views.truth, plane, nullptr, longest, "true displacement", 8, gain_for(plane, longest), state),
            "True displacement");
        out += heading(plane) + "<div class=\"row of6\">" + own + "</div><div class=\"row of6\">" + sum + "</div>";
    }
    return out;
}

std::string feature_figures(const std::vector<FeatureLevel>& levels, PictureState& state) {
    std::string out =
        "<table class=\"narrow\"><caption>Share of the variance in each colour</caption><thead><tr><th "
        "scope=\"col\">Grid</th><th scope=\"col\" class=\"n\">Channels</th><th scope=\"col\" class=\"n\">Red</th><th "
        "scope=\"col\" class=\"n\">Green</th><th scope=\"col\" class=\"n\">Blue</th></tr></thead><tbody>";
    for (const auto& level : levels) {
        out += fmt::format("<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td>", escaped(level.grid), level.channels);
        for (std::size_t k = 0; k < 3; ++k)
            out += fmt::format("<td class=\"n\">{}</td>",
                               k < level.shares.size() ? fmt::format("{:.1f} %", 100 * level.shares[k]) : "none");
        out += "</tr>";
    }
    out += "</tbody></table>";
    const auto picture = [&](const Pixels& rgb, const Plane& plane, const std::string& about) {
        const Raster raster = shrunk(rgb, plane, 3, state.longest_side);
        Pixels bytes;
        for (const double v : raster.values) bytes.push_back(shade(v / 255));
        return image(bytes, raster.height, raster.width, plane.pixel_aspect, about);
    };
    const std::size_t planes = levels.empty() ? 0 : levels.front().planes.size();
    for (std::size_t p = 0; p < planes; ++p) {
        std::string large, moving, fixed;
        for (const auto& level : levels) {
            require(level.planes.size() == planes && level.moving.size() == planes && level.fixed.size() == planes,
                    ErrorKind::internal, "[report] a feature level lacks a plane");
            const Plane& plane = level.planes[p];
            if (!level.warped.empty()) {
                large += figure(picture(level.moving[p], plane, "features of view M"), "View M");
                large += figure(picture(level.warped.at(p), plane, "features of view M moved by the true displacement"),
                                "View M, moved by the true displacement");
                large += figure(picture(level.fixed[p], plane, "features of view F"), "View F");
                continue;
            }
            moving +=
                figure(picture(level.moving[p], plane, "features of view M at " + level.grid), "M, " + level.grid);
            fixed += figure(picture(level.fixed[p], plane, "features of view F at " + level.grid), "F, " + level.grid);
        }
        out += heading(levels.front().planes[p]) + "<div class=\"row of3\">" + large + "</div>";
        if (!moving.empty()) out += "<div class=\"row of4\">" + moving + fixed + "</div>";
    }
    return out;
}

}  // namespace cover::app
