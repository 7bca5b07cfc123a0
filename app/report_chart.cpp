#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "app/report_parts.h"

namespace cover::app {
namespace {

constexpr double width = 560, height = 290, left = 66, right = 14, top = 12, bottom = 50;
constexpr std::size_t most_points = 700;
constexpr double log_span = 30;  // values that span more than this factor are drawn logarithmically

struct Range {
    double low = 0, high = 1;
    bool empty = true;
    void include(double v) {
        if (!std::isfinite(v)) return;
        low = empty ? v : std::min(low, v);
        high = empty ? v : std::max(high, v);
        empty = false;
    }
};

// Ticks and the map from a value to [0, 1].
struct Axis {
    double low = 0, high = 1;
    bool logarithmic = false;
    std::vector<double> ticks;
    double at(double v) const {
        return logarithmic ? std::log(v / low) / std::log(high / low) : (v - low) / (high - low);
    }
    bool shows(double v) const { return std::isfinite(v) && (!logarithmic || v > 0); }
};

// 1, 2 or 5 times a power of ten, so that about `count` ticks fit.
double tick_step(double span, int count) {
    const double raw = span / count, power = std::pow(10, std::floor(std::log10(raw)));
    for (const double factor : {1.0, 2.0, 5.0})
        if (raw <= factor * power * (1 + 1e-9)) return factor * power;
    return 10 * power;
}

Axis linear_axis(Range range, int count, bool rounded) {
    if (!(range.high > range.low)) range.high = range.low + std::max(1e-6, std::abs(range.low));
    const double step = tick_step(range.high - range.low, count);
    Axis axis{range.low, range.high, false, {}};
    if (rounded) {
        axis.low = std::floor(range.low / step + 1e-9) * step;
        axis.high = std::ceil(range.high / step - 1e-9) * step;
    }
    const double first = std::ceil(axis.low / step - 1e-9);
    for (int i = 0; i < 100 && (first + i) * step <= axis.high + step * 1e-6; ++i) {
        const double tick = (first + i) * step;
        axis.ticks.push_back(std::abs(tick) < step * 1e-6 ? 0 : tick);
    }
    return axis;
}

Axis logarithmic_axis(const Range& range) {
    Axis axis{range.low / 1.15, range.high * 1.15, true, {}};
    const double decades = std::log10(axis.high / axis.low);
    const int stride = std::max(1, static_cast<int>(std::ceil(decades / 6)));
    const int first = static_cast<int>(std::floor(std::log10(axis.low)));
    for (int power = first; power <= first + 700 && std::pow(10, power) <= axis.high; power += stride)
        for (const double factor : {1.0, 2.0, 5.0}) {
            if (factor > 1 && decades > 2.2) continue;
            const double tick = factor * std::pow(10, power);
            if (tick >= axis.low && tick <= axis.high) axis.ticks.push_back(tick);
        }
    return axis;
}

Axis powers_axis(const Range& range) {
    Axis axis{range.low, std::max(range.high, 2 * range.low), true, {}};
    for (double tick = range.low; tick <= axis.high * 1.001 && axis.ticks.size() < 20; tick *= 2)
        axis.ticks.push_back(tick);
    return axis;
}

// Long runs have more steps than the chart has columns: each bucket keeps its lowest and highest value, in order.
Curve thinned(const Curve& curve) {
    const std::size_t count = std::min(curve.x.size(), curve.y.size());
    if (count <= 2 * most_points || curve.style == Curve::Style::bars) return curve;
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

const char* style_class(Curve::Style style) {
    switch (style) {
    case Curve::Style::faint: return " faint";
    case Curve::Style::dashed: return " dashed";
    default: return "";
    }
}

std::string legend(const Chart& chart) {
    std::string out;
    for (const auto& curve : chart.curves) {
        if (curve.name.empty()) continue;
        const bool dots = curve.style == Curve::Style::dots;
        out += fmt::format(
            "<span class=\"key\"><svg viewBox=\"0 0 22 10\" width=\"22\" height=\"10\" aria-hidden=\"true\" "
            "focusable=\"false\">{}</svg>{}</span> ",
            dots ? fmt::format("<circle class=\"c{}\" cx=\"11\" cy=\"5\" r=\"4\"/>", curve.colour)
                 : fmt::format("<path class=\"c{}{}\" d=\"M1 5H21\"/>", curve.colour, style_class(curve.style)),
            escaped(curve.name));
    }
    return out.empty() ? out : "<p class=\"keys\">" + out + "</p>";
}

// What a reader who does not see the chart is told of it.
std::string described(const Chart& chart) {
    std::string out = "Against " + chart.x_label + ".";
    for (const auto& curve : chart.curves) {
        Range range;
        double last = std::nan("");
        for (const double y : curve.y) {
            range.include(y);
            if (std::isfinite(y)) last = y;
        }
        if (range.empty) continue;
        out += fmt::format(" {}: from {:.4g} to {:.4g}, last {:.4g}.", curve.name.empty() ? "Values" : curve.name,
                           range.low, range.high, last);
    }
    return out;
}

std::string slug(const std::string& title) {
    std::string out = "chart";
    bool gap = true;
    for (const char c : title) {
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (plain && gap) out += '-';
        if (plain) out += c;
        gap = !plain;
    }
    return out;
}

}  // namespace

std::string chart_figure(const Chart& chart) {
    const std::string opening = "<figure class=\"chart-box\"><h3>" + escaped(chart.title) + "</h3>";
    Range xs, ys;
    double smallest_positive = 0;
    for (const auto& curve : chart.curves)
        for (std::size_t i = 0; i < std::min(curve.x.size(), curve.y.size()); ++i) {
            const double y = curve.y[i];
            if (!std::isfinite(y)) continue;
            xs.include(curve.x[i]);
            if (curve.style == Curve::Style::bars) xs.include(curve.x[i] + chart.bar_width);
            ys.include(y);
            if (y > 0 && (smallest_positive == 0 || y < smallest_positive)) smallest_positive = y;
        }
    if (xs.empty) return opening + "<p class=\"note\">No finite value to draw.</p></figure>";
    if (chart.vertical) xs.include(chart.vertical->at);
    if (chart.horizontal) ys.include(chart.horizontal->at);
    const bool logarithmic =
        chart.y == Chart::Scale::logarithmic_where_it_fits && ys.low > 0 && ys.high > log_span * ys.low;
    Range y_range = ys;
    if (!logarithmic) y_range.include(0);
    const Axis y_axis = logarithmic ? logarithmic_axis(y_range) : linear_axis(y_range, 5, true);
    const Axis x_axis = chart.x == Chart::Scale::powers_of_two ? powers_axis(xs) : linear_axis(xs, 6, false);

    const auto px = [&](double x) { return left + x_axis.at(x) * (width - left - right); };
    const auto py = [&](double y) { return height - bottom - y_axis.at(y) * (height - top - bottom); };

    const std::string id = slug(chart.title);
    std::string svg = fmt::format(
        "<svg class=\"chart\" viewBox=\"0 0 {} {}\" role=\"img\" aria-labelledby=\"{}-t {}-d\"><title id=\"{}-t\">{}"
        "</title><desc id=\"{}-d\">{}</desc><g class=\"grid\">",
        width, height, id, id, id, escaped(chart.title), id, escaped(described(chart)));
    std::string labels;
    for (const double tick : y_axis.ticks) {
        svg += fmt::format("<line x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", left, width - right, py(tick),
                           py(tick));
        labels += text_at(left - 7, py(tick) + 4.5, "end", fmt::format("{:.6g}", tick));
    }
    for (const double tick : x_axis.ticks)
        labels += text_at(px(tick), height - bottom + 20, "middle", fmt::format("{:.10g}", tick));
    svg += "</g>" + labels +
           text_at((left + width - right) / 2, height - 6, "middle",
                   chart.x_label + (logarithmic ? "; vertical axis logarithmic" : ""));

    for (const auto& whole : chart.curves) {
        const Curve curve = thinned(whole);
        std::string path;
        bool pen_down = false;
        for (std::size_t i = 0; i < std::min(curve.x.size(), curve.y.size()); ++i) {
            const bool shown = y_axis.shows(curve.y[i]);
            const double x = curve.x[i], y = curve.y[i];
            if (shown && curve.style == Curve::Style::dots)
                svg += fmt::format("<circle class=\"c{}\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\"/>", curve.colour, px(x),
                                   py(y));
            else if (shown && curve.style == Curve::Style::bars)
                svg += fmt::format("<rect class=\"c{}\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>",
                                   curve.colour, px(x) + 1, py(y), std::max(px(x + chart.bar_width) - px(x) - 2, 0.5),
                                   py(y_axis.low) - py(y));
            else if (shown)
                path += fmt::format("{}{:.1f} {:.1f}", pen_down ? "L" : "M", px(x), py(y));
            pen_down = shown;
        }
        // A point without neighbours is a line of no length, which round caps make visible.
        if (path.find('L') == std::string::npos && !path.empty()) path += "h0";
        if (!path.empty())
            svg += fmt::format("<path class=\"c{}{}\" d=\"{}\"/>", curve.colour, style_class(curve.style), path);
    }
    if (chart.horizontal && y_axis.shows(chart.horizontal->at)) {
        const double y = py(chart.horizontal->at);
        svg += fmt::format("<line class=\"mark\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>", left,
                           width - right, y, y);
        svg += text_at(width - right - 4, y < top + 18 ? y + 17 : y - 6, "end", chart.horizontal->name);
    }
    if (chart.vertical) {
        const double x = px(chart.vertical->at);
        svg += fmt::format("<line class=\"mark\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\"/>", x, x, top,
                           height - bottom);
        const bool near_end = x > width / 2;
        svg += text_at(near_end ? x - 5 : x + 5, top + 14, near_end ? "end" : "start", chart.vertical->name);
    }
    return opening + legend(chart) + svg + "</svg><figcaption>" + escaped(chart.note) + "</figcaption></figure>";
}

}  // namespace cover::app
