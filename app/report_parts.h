// The pieces of a report: escaped text, tables, charts and pictures as strings of HTML and SVG.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "app/report.h"

namespace cover::app {

std::string escaped(std::string_view plain);
std::string base64(std::string_view bytes);
// "1.234" as fmt's `format` says; "none" where the value is not finite.
std::string number_text(double value, const char* format = "{:.3g}");

extern const char* const report_style;  // the style sheet

struct Curve {
    enum class Style { line, faint, dashed, dots, bars };
    std::string name;
    std::vector<double> x, y;  // a value that is not finite interrupts the line
    int colour = 1;            // 1 to 3: a variable of the style sheet
    Style style = Style::line;
};

struct Mark {
    double at = 0;
    std::string name;
};

struct Chart {
    enum class Scale { linear, logarithmic_where_it_fits, powers_of_two };
    std::string title, x_label;
    std::string note;  // what to look for
    std::vector<Curve> curves;
    Scale x = Scale::linear, y = Scale::linear;
    std::optional<Mark> horizontal, vertical;  // dashed lines with a name
    double bar_width = 0;                      // of Style::bars, in units of x; x is a bar's left edge
};

// <figure> with a title, a legend and an inline SVG; a sentence instead where no curve has a finite value.
std::string chart_figure(const Chart& chart);

// What pictures share while a page is put together.
struct PictureState {
    int longest_side = 320;  // pixels of a PNG; larger pictures are averaged down
    int next_id = 0;
};

// Views, overlap, fields and error of each pair, on each of its planes, under one legend. Not empty.
std::string pair_figures(const std::vector<ViewPair>& pairs, PictureState& state);
// The levels of the pyramid on the planes of the first pair: each alone and their running sum.
std::string level_figures(const LevelStudy& study, const std::vector<ViewPair>& pairs, PictureState& state);
std::string feature_figures(const std::vector<FeatureLevel>& levels, PictureState& state);

// The colour of a displacement: its direction is the hue, its length, as a share of `longest`, the saturation.
void wheel_colour(double down, double right, double longest, unsigned char rgb[3]);

}  // namespace cover::app
