// The pieces of a report: escaped text, pictures and charts as strings of HTML and SVG.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "app/report.h"

namespace cover::app {

std::string escaped(std::string_view plain);
std::string base64(std::string_view bytes);

struct Curve {
    std::string name;
    std::vector<double> x, y;  // a value that is not finite interrupts the line
    int colour = 1;            // 1 to 3: a variable of the style sheet
    bool faint = false;        // single steps behind their mean
    bool dots = false;         // a few separate measurements
};

// `baseline`: a dashed horizontal line with a name, where `baseline_name` is not empty.
std::string line_chart(const std::string& title, const std::string& x_label, const std::vector<Curve>& curves,
                       double baseline = 0, const std::string& baseline_name = "");

// <figure> of two views and the overlap, then of both fields with arrows and the colour wheel that explains them.
std::string pair_figures(const ViewPair& pair);

// The colour of a displacement: its direction is the hue, its length, as a share of `longest`, the saturation.
void wheel_colour(double down, double right, double longest, unsigned char rgb[3]);

}  // namespace cover::app
