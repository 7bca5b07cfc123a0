#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "app/report_parts.h"

namespace cover::app {
namespace {

constexpr double width = 720, height = 300, left = 58, right = 16, top = 34, bottom = 44;
constexpr std::size_t most_points = 800;

struct Range {
    double low = 0, high = 1;
    void include(double v) {
        if (!std::isfinite(v)) return;
        low = empty ? v : std::min(low, v);
        high = empty ? v : std::max(high, v);
        empty = false;
    }
    bool empty = true;
};

// 1, 2 or 5 times a power of ten, so that about `count` ticks fit.
double tick_step(double span, int count) {
    const double raw = span / count, power = std::pow(10, std::floor(std::log10(raw)));
    for (const double factor : {1.0, 2.0, 5.0})
        if (raw <= factor * power) return factor * power;
    return 10 * power;
}

// Long runs have more steps than the chart has columns: each bucket keeps its lowest and highest value, in order.
Curve thinned(const Curve& curve) {
    const std::size_t count = std::min(curve.x.size(), curve.y.size());
    if (count <= 2 * most_points) return curve;
    Curve out = curve;
    out.x.clear();
    out.y.clear();
    for (std::size_t bucket = 0; bucket < most_points; ++bucket) {
        const std::size_t from = bucket * count / most_points, to = (bucket + 1) * count / most_points;
        auto low = from, high = from;
        for (auto i = from; i < to; ++i) {
            if (curve.y[i] < curve.y[low] || !std::isfinite(curve.y[low])) low = i;
            if (curve.y[i] > curve.y[high] || !std::isfinite(curve.y[high])) high = i;
        }
        for (const auto i : {std::min(low, high), std::max(low, high)}) {
            out.x.push_back(curve.x[i]);
            out.y.push_back(curve.y[i]);
        }
    }
    return out;
}

std::string text_at(double x, double y, const char* anchor, const std::string& words) {
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>", x, y, anchor, escaped(words));
}

}  // namespace

std::string line_chart(const std::string& title, const std::string& x_label, const std::vector<Curve>& curves,
                       double baseline, const std::string& baseline_name) {
    Range xs, ys;
    for (const auto& curve : curves)
        for (std::size_t i = 0; i < std::min(curve.x.size(), curve.y.size()); ++i) {
            if (!std::isfinite(curve.y[i])) continue;
            xs.include(curve.x[i]);
            ys.include(curve.y[i]);
        }
    if (!baseline_name.empty()) ys.include(baseline);
    if (xs.empty) return {};
    ys.include(0);
    if (!(xs.high > xs.low)) xs.high = xs.low + 1;
    if (!(ys.high > ys.low)) ys.high = ys.low + 1;
    const double y_step = tick_step((ys.high - ys.low) * 1.02, 5),
                 x_step = std::max(tick_step(xs.high - xs.low, 8), 1.0);
    ys.low = std::floor(ys.low / y_step) * y_step;
    ys.high = std::ceil(ys.high * 1.001 / y_step) * y_step;

    const auto px = [&](double x) { return left + (x - xs.low) / (xs.high - xs.low) * (width - left - right); };
    const auto py = [&](double y) {
        return height - bottom - (y - ys.low) / (ys.high - ys.low) * (height - top - bottom);
    };

    std::string svg = fmt::format("<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">", width,
                                  height, escaped(title));
    svg += "<g class=\"grid\">";
    std::string labels;
    for (int i = 0; ys.low + i * y_step <= ys.high + y_step / 2; ++i) {
        const double y = ys.low + i * y_step;
        svg +=
            fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", left, width - right, py(y), py(y));
        labels += text_at(left - 8, py(y) + 4, "end", fmt::format("{:.6g}", std::abs(y) < y_step / 1e6 ? 0.0 : y));
    }
    for (double x = std::ceil(xs.low / x_step) * x_step; x <= xs.high + x_step * 1e-6; x += x_step)
        labels += text_at(px(x), height - bottom + 18, "middle", fmt::format("{:.10g}", x));
    svg += "</g>" + labels + text_at((left + width - right) / 2, height - 8, "middle", x_label);

    if (!baseline_name.empty()) {
        svg += fmt::format("<line class=\"baseline\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", left,
                           width - right, py(baseline), py(baseline));
        svg += text_at(width - right - 4, py(baseline) - 5, "end", baseline_name);
    }
    double legend_x = left;
    for (const auto& whole : curves) {
        const Curve curve = thinned(whole);
        if (!curve.name.empty()) {
            svg += fmt::format("<rect class=\"c{}{}\" x=\"{:.1f}\" y=\"8\" width=\"14\" height=\"4\"/>", curve.colour,
                               curve.faint ? " faint" : "", legend_x);
            svg += text_at(legend_x + 20, 14, "start", curve.name);
            legend_x += 36 + 6.6 * static_cast<double>(curve.name.size());
        }
        std::string path;
        bool pen_down = false;
        for (std::size_t i = 0; i < std::min(curve.x.size(), curve.y.size()); ++i) {
            const bool finite = std::isfinite(curve.y[i]);
            if (finite && curve.dots)
                svg += fmt::format("<circle class=\"c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"/>", curve.colour,
                                   px(curve.x[i]), py(curve.y[i]));
            if (finite) path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", px(curve.x[i]), py(curve.y[i]));
            pen_down = finite;
        }
        if (!curve.dots)
            svg += fmt::format("<path class=\"c{}{}\" d=\"{}\"/>", curve.colour, curve.faint ? " faint" : "", path);
    }
    return fmt::format("<figure><figcaption>{}</figcaption>{}</svg></figure>", escaped(title), svg);
}

}  // namespace cover::app
