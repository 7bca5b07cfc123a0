#include "app/report.h"

#include <fmt/format.h>

#include <cmath>

#include "app/progress.h"
#include "app/report_parts.h"

namespace cover::app {
namespace {

constexpr std::size_t most_bytes = 2'900'000;

std::string fact_table(const FactTable& facts, const char* style) {
    std::string out = fmt::format("<table class=\"{}\"><caption>{}</caption><tbody>", style, escaped(facts.title));
    for (const auto& [name, value] : facts.rows)
        out += "<tr><th scope=\"row\">" + escaped(name) + "</th><td>" + escaped(value) + "</td></tr>";
    return out + "</tbody></table>\n";
}

std::string section(const char* id, const char* title, const std::string& introduction) {
    return fmt::format("<h2 id=\"{}\">{}</h2>\n<p>{}</p>\n", id, title, escaped(introduction));
}

// Of lengths.
const char* unit_of(const RunReport& report) { return report.dims == 3 ? "voxels" : "pixels"; }

class Columns {
public:
    explicit Columns(const RunLog& log) : log_(log) {
        for (const auto& point : log.steps) steps_.push_back(static_cast<double>(point.step));
        for (const auto& point : log.heldout) heldout_steps_.push_back(static_cast<double>(point.step));
    }
    // Single steps, their running mean and, where there are any, the held-out values.
    std::vector<Curve> curves(double StepPoint::*value, int colour, double Heldout::*heldout = nullptr) const {
        const auto y = column(value);
        std::vector<Curve> out{{"single steps", steps_, y, colour, Curve::Style::faint},
                               {"mean of 25 steps", steps_, running_mean(y, 25), colour, Curve::Style::line}};
        if (heldout && !heldout_steps_.empty()) {
            Curve dots{"held out", heldout_steps_, {}, 2, Curve::Style::dots};
            for (const auto& point : log_.heldout) dots.y.push_back(point.*heldout);
            out.push_back(std::move(dots));
        }
        return out;
    }
    Curve single(double StepPoint::*value, int colour) const {
        return {"", steps_, column(value), colour, Curve::Style::line};
    }

private:
    std::vector<double> column(double StepPoint::*value) const {
        std::vector<double> out;
        for (const auto& point : log_.steps) out.push_back(point.*value);
        return out;
    }
    const RunLog& log_;
    std::vector<double> steps_, heldout_steps_;
};

std::string training_charts(const RunReport& report) {
    const Columns columns(report.log);
    const std::string vec_title = fmt::format("L_vec, {}", unit_of(report));
    const auto chart = [](const std::string& title, const char* note, std::vector<Curve> curves) {
        Chart out;
        out.title = title;
        out.x_label = "step";
        out.note = note;
        out.curves = std::move(curves);
        out.y = Chart::Scale::logarithmic_where_it_fits;
        return out;
    };
    auto ratio = chart("loss_vec_ratio",
                       "L_vec as a share of what a field of zeros scores on the same pixels: 1 is no better than "
                       "nothing, 0 is perfect. A held-out curve that turns up while the other falls is overfitting.",
                       columns.curves(&StepPoint::loss_vec_ratio, 1, &Heldout::loss_vec_ratio));
    ratio.y = Chart::Scale::linear;
    ratio.horizontal = Mark{1, "zero field"};
    auto norm =
        chart("Gradient norm",
              "Before clipping. Above the dashed line the gradient is shortened to it; a norm that keeps growing "
              "asks for a smaller learning rate.",
              columns.curves(&StepPoint::grad_norm, 1));
    if (report.clip > 0) norm.horizontal = Mark{report.clip, "clip"};
    auto rate = chart("Learning rate", "The rate that each step was taken with.", {columns.single(&StepPoint::lr, 1)});
    rate.y = Chart::Scale::linear;
    return "<div class=\"charts\">" + chart_figure(ratio) +
           chart_figure(chart(
               "Loss",
               "L = L_vec + L_con, the quantity that is minimised. How far it can fall depends on the size of the "
               "displacements: compare runs by the ratio.",
               columns.curves(&StepPoint::loss, 1, &Heldout::loss))) +
           chart_figure(chart(vec_title, "Mean L1 distance of predicted and true displacement over the overlap.",
                              columns.curves(&StepPoint::loss_vec, 1, &Heldout::loss_vec))) +
           chart_figure(chart("L_con",
                              "1 minus the mean cosine of the features of matching pixels. Close to 0 from the start: "
                              "watch the similarity below, since constant features reach 0 as well.",
                              columns.curves(&StepPoint::loss_con, 3, &Heldout::loss_con))) +
           chart_figure(norm) + chart_figure(rate) + "</div>\n";
}

std::string scores_table(const RunReport& report) {
    const Evaluation& e = report.scores;
    const char* unit = unit_of(report);
    std::string out =
        "<table class=\"named\"><thead><tr><th scope=\"col\">Score</th><th scope=\"col\" class=\"n\">Value</th><th "
        "scope=\"col\">What it says</th></tr></thead><tbody>";
    const auto row = [&](const char* name, const std::string& value, const std::string& meaning) {
        out += fmt::format("<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td><td>{}</td></tr>", name, escaped(value),
                           escaped(meaning));
    };
    row("epe", number_text(e.epe, "{:.3f} ") + unit, "mean distance of predicted and true displacement");
    row("epe_ratio", number_text(e.epe_ratio, "{:.4f}"), "that over the mean displacement: 1 is no better than none");
    row("loss_vec_ratio", number_text(e.loss_vec_ratio, "{:.4f}"), "the same with the L1 norm of training");
    row("consistency", number_text(e.consistency, "{:.4f}"),
        "mean cosine of the features of matching pixels, 1 - L_con");
    row("beyond_reach", number_text(100 * e.beyond_reach, "{:.1f} %"),
        fmt::format("share of valid {} with a displacement of more than {:g} along an axis, which the pyramid cannot "
                    "express",
                    unit, report.reach));
    row("pairs", fmt::format("{}", e.pairs),
        fmt::format("pairs of views, {} valid {}; affine only, appearance unchanged", e.valid_pixels, unit));
    return out + "</tbody></table>\n";
}

std::string score_charts(const RunReport& report) {
    const Evaluation& e = report.scores;
    const char* unit = unit_of(report);
    Chart similarity;
    similarity.title = "Similarity against distance";
    similarity.x_label = fmt::format("distance along an axis, {}", unit);
    similarity.x = Chart::Scale::powers_of_two;
    Curve curve{"mean cosine of the features", {}, {}, 3, Curve::Style::line}, dots = curve;
    dots.style = Curve::Style::dots;
    dots.name.clear();
    std::string values;
    for (std::size_t k = 0; k < e.similarity.size(); ++k) {
        if (!std::isfinite(e.similarity[k])) continue;
        const auto distance = static_cast<double>(similarity_distances[k]);
        for (Curve* c : {&curve, &dots}) {
            c->x.push_back(distance);
            c->y.push_back(e.similarity[k]);
        }
        values += fmt::format("<tr><th scope=\"row\">{}</th><td class=\"n\">{:.4f}</td></tr>", similarity_distances[k],
                              e.similarity[k]);
    }
    similarity.curves = {curve, dots};
    similarity.note =
        "Mean cosine of full-resolution features of F that far apart. Dispersed features fall with distance; a flat "
        "line "
        "at 1 is a collapse.";

    const BySize& bins = report.by_size;
    Curve error{"error of the prediction", {}, {}, 1, Curve::Style::line},
        zero{"error of a zero field", {}, {}, 2, Curve::Style::dashed}, share{"", {}, {}, 1, Curve::Style::bars};
    for (std::size_t i = 0; i < bins.share.size(); ++i) {
        const double from = static_cast<double>(i) * bins.width;
        error.x.push_back(from + bins.width / 2);
        error.y.push_back(bins.error[i]);
        zero.x.push_back(from + bins.width / 2);
        zero.y.push_back(bins.length[i]);
        share.x.push_back(from);
        share.y.push_back(100 * bins.share[i]);
    }
    Chart by_size;
    by_size.title = fmt::format("Error against size of the displacement, {}", unit);
    by_size.x_label = fmt::format("largest component of the true displacement, {}", unit);
    by_size.curves = {error, zero};
    by_size.note =
        "Below the dotted line the network knows more than nothing; where the curves meet it has not learnt such "
        "displacements yet.";
    Chart shares;
    shares.title = fmt::format("Unreachable share: valid {} by size of the displacement, %", unit);
    shares.x_label = by_size.x_label;
    shares.curves = {share};
    shares.bar_width = bins.width;
    const bool within = bins.width * static_cast<double>(bins.share.size()) < 0.6 * report.reach;
    shares.note = fmt::format(
        "What lies right of the pyramid's reach of {:g} {} cannot be expressed by any weights: {} "
        "of the valid {}.{}",
        report.reach, unit, number_text(100 * e.beyond_reach, "{:.1f} %"), unit,
        within ? " Here everything lies far within." : "");
    if (!within) {
        by_size.vertical = Mark{report.reach, "reach"};
        shares.vertical = by_size.vertical;
    }
    return "<div class=\"charts\">" + chart_figure(similarity) + chart_figure(shares) + chart_figure(by_size) +
           fmt::format(
               "<div><table><caption>Similarity against distance</caption><thead><tr><th scope=\"col\">Distance, "
               "{}</th><th scope=\"col\" class=\"n\">Mean cosine</th></tr></thead><tbody>",
               unit) +
           values + "</tbody></table></div></div>\n";
}

std::string tiles(const RunReport& report) {
    std::string out;
    const auto tile = [&](const char* name, const std::string& value) {
        out += fmt::format("<div><dt>{}</dt><dd>{}</dd></div>", name, escaped(value));
    };
    if (!report.log.steps.empty()) {
        tile("steps", fmt::format("{} of {}", report.log.steps.back().step, report.steps_planned));
        tile("loss_vec_ratio, last 25 steps",
             number_text(mean_of_last(report.log.steps, &StepPoint::loss_vec_ratio), "{:.3f}"));
    }
    if (report.scores.pairs > 0) {
        tile("epe_ratio", number_text(report.scores.epe_ratio, "{:.3f}"));
        tile("consistency", number_text(report.scores.consistency, "{:.4f}"));
        tile("beyond reach", number_text(100 * report.scores.beyond_reach, "{:.1f} %"));
    }
    if (report.log.run_seconds > 0) tile("time", duration_text(report.log.run_seconds));
    return out.empty() ? out : "<dl class=\"tiles\">" + out + "</dl>\n";
}

std::string page(const RunReport& report, int longest_side) {
    std::string out =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" "
        "content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light "
        "dark\">\n<title>";
    out += escaped(report.title) + "</title>\n<style>" + report_style + "</style>\n</head>\n<body>\n<header><h1>" +
           escaped(report.title) + "</h1>\n<p class=\"lead\">" + escaped(report.summary) + "</p>\n";
    if (!report.notes.empty()) {
        out += "<div class=\"notes\" role=\"note\"><ul>";
        for (const auto& note : report.notes) out += "<li>" + escaped(note) + "</li>";
        out += "</ul></div>\n";
    }
    const bool scored = report.scores.pairs > 0, pictured = !report.pairs.empty();
    out += tiles(report) + "<nav aria-label=\"Sections\"><a href=\"#ran\">What ran</a><a href=\"#curves\">Curves</a>";
    if (scored) out += "<a href=\"#scores\">Scores</a>";
    if (pictured)
        out +=
            "<a href=\"#views\">Views and displacements</a><a href=\"#levels\">Levels of the pyramid</a><a "
            "href=\"#features\">Features</a>";
    out += "<a href=\"#settings\">Settings</a></nav></header>\n<main>\n<h2 id=\"ran\">What ran</h2>\n";
    out += "<div class=\"tables\">";
    for (const auto& facts : report.facts) out += fact_table(facts, "facts");
    out += "</div>\n";

    out += "<h2 id=\"curves\">Curves</h2>\n";
    out += report.log.steps.empty() ? "<p>No step has been taken.</p>\n" : training_charts(report);
    if (scored)
        out += section("scores", "Scores", "On " + report.sample_origin + ".") + scores_table(report) +
               score_charts(report);
    PictureState state{longest_side, 0};
    if (pictured) {
        const bool volume = report.pairs.front().planes.size() > 1;
        out += section(
            "views", "Views and displacements",
            "Views as training draws them, of " + report.sample_origin +
                ". The network sees M and F and predicts, for each pixel of F, where it came from in M. Compare the "
                "two "
                "fields inside the overlap: colours and arrows should agree." +
                (volume ? " Three orthogonal slices through the centre, each with the components within it." : ""));
        out += pair_figures(report.pairs, state);
        out += section("levels", "Levels of the pyramid",
                       "How the first prediction comes about. The coarsest level finds large displacements on a small "
                       "grid, each finer one corrects what is left: the error so far should fall from row to row, and "
                       "the sums should approach the true displacement.") +
               level_figures(report.pyramid, report.pairs, state) + "\n";
        out += section("features", "Features",
                       "The features of the first pair: their first three principal components as red, green and blue, "
                       "one basis for both views. Equal anatomy should have equal colours in M and F, and M moved by "
                       "the true displacement should look like F; one single colour would be a collapse.") +
               feature_figures(report.features, state) + "\n";
    }
    out += section("settings", "Settings", "Every key of config.toml, which `cover pretrain --config` takes.") +
           "<div class=\"settings\">";
    for (const auto& table : report.settings) out += fact_table(table, "facts");
    return out +
           "</div>\n</main>\n<footer>Made by `cover report` from the run folder. One file, no scripts, nothing is "
           "loaded from elsewhere.</footer>\n</body>\n</html>\n";
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

std::string number_text(double value, const char* format) {
    return std::isfinite(value) ? fmt::format(fmt::runtime(format), value) : "none ";
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

double mean_of_last(const std::vector<StepPoint>& steps, double StepPoint::*value) {
    std::vector<double> values;
    for (std::size_t i = steps.size() > 25 ? steps.size() - 25 : 0; i < steps.size(); ++i)
        values.push_back(steps[i].*value);
    return values.empty() ? std::nan("") : running_mean(values, 25).back();
}

std::string render_report(const RunReport& report) {
    std::string out;
    for (int side = 320; side >= 40; side = side * 3 / 4) {
        out = page(report, side);
        if (out.size() <= most_bytes) break;
    }
    return out;
}

}  // namespace cover::app
