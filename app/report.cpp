#include "app/report.h"

#include <cmath>

#include "app/report_parts.h"

namespace cover::app {
namespace {

constexpr const char* style = R"css(
:root { color-scheme: light dark; --back: #fff; --text: #1c1f24; --soft: #5b6470; --line: #d5d9df; --card: #f6f7f9;
  --c1: #1f6fb4; --c2: #c4500c; --c3: #2b7d3f; }
@media (prefers-color-scheme: dark) { :root { --back: #15181c; --text: #e6e9ed; --soft: #a3adb8; --line: #3a424c;
  --card: #1d2126; --c1: #6db3f2; --c2: #f59a5c; --c3: #7ccf8f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 60rem; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
.lead { color: var(--soft); max-width: 45rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top;
  overflow-wrap: anywhere; }
th { font-weight: 500; color: var(--soft); width: 34%; }
figure { margin: 0 0 1rem; }
figcaption { font-size: .85rem; color: var(--soft); }
.row { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: .8rem; align-items: start; }
.stack { position: relative; line-height: 0; }
.stack img { width: 100%; height: auto; image-rendering: pixelated; border: 1px solid var(--line); }
.arrows { position: absolute; inset: 0; width: 100%; height: 100%; }
.arrows path { stroke: #111; fill: none; stroke-linecap: round; }
.wheel .stack { max-width: 9rem; }
.chart { width: 100%; height: auto; }
.chart text { fill: var(--soft); font-size: 12px; font-family: system-ui, sans-serif; }
.chart .grid line { stroke: var(--line); stroke-width: 1; }
.chart .baseline { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 5 4; }
.chart path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.chart path.faint { stroke-width: 1; opacity: .4; }
.chart rect.faint { opacity: .4; }
path.c1 { stroke: var(--c1); } path.c2 { stroke: var(--c2); } path.c3 { stroke: var(--c3); }
rect.c1, circle.c1 { fill: var(--c1); } rect.c2, circle.c2 { fill: var(--c2); } rect.c3, circle.c3 { fill: var(--c3); }
.note { font-size: .85rem; color: var(--soft); margin: 0; }
pre { background: var(--card); border: 1px solid var(--line); padding: .8rem; overflow-x: auto; font-size: .8rem; }
@media (max-width: 34rem) { .row { grid-template-columns: repeat(2, minmax(0, 1fr)); } .chart text { font-size: 17px; }
  th { width: 42%; } }
@media print { :root { color-scheme: light; --back: #fff; --text: #000; --soft: #444; --line: #bbb; --card: #fff;
  --c1: #1f6fb4; --c2: #c4500c; --c3: #2b7d3f; } body { max-width: none; font-size: 11pt; padding: 0; }
  figure, .row, .pair { break-inside: avoid; } pre { white-space: pre-wrap; }
  img, .chart { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
)css";

using Rows = std::vector<std::pair<std::string, std::string>>;

std::string table(const Rows& rows) {
    std::string out = "<table><tbody>";
    for (const auto& [name, value] : rows)
        out += "<tr><th scope=\"row\">" + escaped(name) + "</th><td>" + escaped(value) + "</td></tr>";
    return out + "</tbody></table>";
}

std::string curve_chart(const std::string& title, const std::vector<double>& x, const std::vector<double>& y,
                        int colour, double baseline = 0, const std::string& baseline_name = "",
                        const std::vector<Heldout>& heldout = {}) {
    std::vector<Curve> curves;
    curves.push_back({"single steps", x, y, colour, true, false});
    curves.push_back({"mean of 25", x, running_mean(y, 25), colour, false, false});
    if (!heldout.empty()) {
        Curve dots{"held-out", {}, {}, 2, false, true};
        for (const auto& point : heldout) {
            dots.x.push_back(static_cast<double>(point.step));
            dots.y.push_back(point.loss_vec_ratio);
        }
        curves.push_back(dots);
    }
    return line_chart(title, "step", curves, baseline, baseline_name);
}

}  // namespace

std::string escaped(std::string_view plain) {
    std::string out;
    for (const char c : plain) {
        switch (c) {
        case '&': out += "&amp;"; break;
        case '<': out += "&lt;"; break;
        case '>': out += "&gt;"; break;
        case '"': out += "&quot;"; break;
        case '\'': out += "&#39;"; break;
        default: out += c;
        }
    }
    return out;
}

std::vector<double> running_mean(const std::vector<double>& values, int window) {
    std::vector<double> out(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
        const std::size_t from =
            i + 1 > static_cast<std::size_t>(window) ? i + 1 - static_cast<std::size_t>(window) : 0;
        double sum = 0;
        int count = 0;
        for (std::size_t k = from; k <= i; ++k)
            if (std::isfinite(values[k])) {
                sum += values[k];
                ++count;
            }
        out[i] = count > 0 ? sum / count : std::nan("");
    }
    return out;
}

std::string render_report(const RunReport& report) {
    std::string out =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
        "content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light "
        "dark\">\n<title>";
    out += escaped(report.title) + "</title>\n<style>" + style + "</style>\n</head>\n<body>\n<h1>" +
           escaped(report.title) + "</h1>\n<p class=\"lead\">" + escaped(report.summary) + "</p>\n";

    std::vector<double> x, vec, con, ratio;
    for (const auto& point : report.steps) {
        x.push_back(static_cast<double>(point.step));
        vec.push_back(point.loss_vec);
        con.push_back(point.loss_con);
        ratio.push_back(point.loss_vec_ratio);
    }
    if (!report.scores.empty()) out += "<h2>Scores</h2>\n" + table(report.scores) + "\n";
    if (!report.pairs.empty()) {
        out += "<h2>Views and displacements</h2>\n";
        for (const auto& pair : report.pairs) out += pair_figures(pair) + "\n";
    }
    out += "<h2>Curves</h2>\n";
    if (x.empty()) out += "<p>No step has been taken.</p>\n";
    out += curve_chart("loss_vec_ratio: L_vec as a share of what a zero field scores on the same pixels", x, ratio, 1,
                       1, "zero field", report.heldout);
    out += curve_chart("loss_vec: mean L1 distance of predicted and true displacement, pixels", x, vec, 1);
    out += curve_chart("loss_con: 1 - mean cosine of the features of matching pixels", x, con, 3);
    if (!report.facts.empty()) out += "\n<h2>The run</h2>\n" + table(report.facts) + "\n";
    if (!report.config.empty())
        out += "<details><summary>config.toml</summary><pre>" + escaped(report.config) + "</pre></details>\n";
    return out + "</body>\n</html>\n";
}

}  // namespace cover::app
