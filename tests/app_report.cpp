#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "app/log.h"
#include "app/progress.h"
#include "app/report.h"
#include "app/report_parts.h"
#include "core/check.h"
#include "core/file.h"
#include "core/rng.h"
#include "tests/support.h"

namespace cover::app {
namespace {

std::size_t occurrences(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
    return count;
}

// What a reader sees: data URIs left out.
std::string without_pictures(const std::string& html) {
    std::string out;
    for (std::size_t at = 0; at < html.size();) {
        const auto from = html.find("base64,", at);
        out += html.substr(at, from == std::string::npos ? from : from + 7 - at);
        if (from == std::string::npos) break;
        at = html.find('"', from);
    }
    return out;
}

// Empty where every tag is closed in order; otherwise what is wrong. The style sheet holds no tags.
std::string tag_problem(const std::string& html) {
    const std::set<std::string> empty_tags{"!DOCTYPE", "meta", "img"};
    std::vector<std::string> open;
    for (auto at = html.find('<'); at != std::string::npos; at = html.find('<', at + 1)) {
        const auto end = html.find('>', at);
        if (end == std::string::npos) return "a tag without an end";
        const std::string inside = html.substr(at + 1, end - at - 1);
        const std::string name = inside.substr(0, inside.find_first_of(" \n/", 1));
        if (inside[0] == '/') {
            if (open.empty() || "/" + open.back() != inside)
                return "</" + inside + "> closes " + (open.empty() ? "nothing" : open.back());
            open.pop_back();
        } else if (inside.back() != '/' && !empty_tags.count(name)) {
            open.push_back(name);
        }
    }
    return open.empty() ? "" : open.back() + " stays open";
}

bool has_word(const std::string& text, const std::string& word) {
    return std::regex_search(text, std::regex("\\b" + word + "\\b", std::regex::icase));
}

std::vector<float> constant(int height, int width, int channels, float value) {
    return std::vector<float>(static_cast<std::size_t>(height * width * channels), value);
}

ViewPair some_pair(int height, int width, int planes) {
    ViewPair pair;
    pair.caption = "a <b> & 'c'";
    pair.epe = std::nan("");
    for (int p = 0; p < planes; ++p) {
        PlaneViews views;
        views.plane = {planes > 1 ? "H right, W up; D = 3" : "", height, width, planes > 1 ? 2.5 : 1.0};
        views.moving = constant(height, width, 1, 0.5f);
        views.fixed = constant(height, width, 1, 0.25f);
        views.mask = constant(height, width, 1, 1.0f);
        views.truth = constant(height, width, 2, 3.0f);
        views.predicted = constant(height, width, 2, std::numeric_limits<float>::quiet_NaN());
        pair.planes.push_back(views);
    }
    return pair;
}

RunReport some_report(int height, int width, int planes) {
    RunReport report;
    report.title = "<script>alert(1)</script>";
    report.summary = "a \"summary\" & more";
    report.notes = {"<i>torn</i>"};
    report.facts = {{"Data", {{"<name>", "<value>"}}}};
    report.settings = {{"Network", {{"channels", "[\"</pre>\"]"}}}};
    report.dims = planes > 1 ? 3 : 2;
    report.clip = 1;
    report.steps_planned = 3000;
    for (int step = 1; step <= 3000; ++step)
        report.log.steps.push_back({step, 11.0 / step, 10.0 / step, step == 7 ? std::nan("") : 0.5, 1.0 / step,
                                    100.0 / step, 1e-4, 0.5, 0.1, 0});
    report.log.heldout = {{500, 1.0, 0.9, 0.1, 0.5}};
    report.sample_origin = "images & more";
    report.scores.pairs = 4;
    report.scores.epe = std::nan("");
    report.scores.similarity.fill(std::numeric_limits<double>::quiet_NaN());
    report.scores.similarity[0] = 0.9;
    report.by_size = {1, {0.5, 0.5}, {std::nan(""), 1}, {0.5, 1.5}};
    report.reach = 62;
    report.pairs = {some_pair(height, width, planes)};
    FeatureLevel fine{"a", 8, {0.5, 0.25, 0.125}, {}, {}, {}, {}}, coarse = fine;
    for (int p = 0; p < planes; ++p) {
        const std::vector<unsigned char> rgb(static_cast<std::size_t>(height * width * 3), 100);
        for (auto* level : {&fine, &coarse}) {
            level->planes.push_back(report.pairs[0].planes[0].plane);
            level->moving.push_back(rgb);
            level->fixed.push_back(rgb);
        }
        fine.warped.push_back(rgb);
    }
    report.features = {fine, coarse};
    LevelField level;
    level.grid = "4 x 4";
    level.own.assign(static_cast<std::size_t>(planes), constant(height, width, 2, -1.0f));
    level.sum = level.own;
    report.pyramid.levels = {level, level};
    return report;
}

}  // namespace

TEST_CASE("report: self-contained, without scripts, everything escaped, every tag closed, in 2D and 3D") {
    for (const int planes : {1, 3}) {
        const auto report = some_report(16, 32, planes);
        const auto html = render_report(report);
        const auto shown = without_pictures(html);
        CHECK(tag_problem(shown) == "");
        for (const char* foreign :
             {"<script", "<link", "<iframe", "http:", "https:", "@import", "url(", "onload", "</pre>"})
            CHECK_MESSAGE(shown.find(foreign) == std::string::npos, foreign);
        const std::regex source("src=\"(?!data:image/png;base64,)|href=\"(?!#)");
        CHECK(!std::regex_search(shown, source));
        CHECK(shown.find("a &lt;b&gt; &amp; &#39;c&#39;") != std::string::npos);
        CHECK(shown.find("&lt;i&gt;torn") != std::string::npos);
        CHECK(!has_word(shown, "nan"));
        CHECK(!has_word(shown, "inf"));
        for (const char* id : {"ran", "curves", "scores", "views", "levels", "features", "settings"}) {
            CHECK_MESSAGE(occurrences(shown, text("id=\"", id, "\"")) == 1, id);
            CHECK_MESSAGE(occurrences(shown, text("href=\"#", id, "\"")) == 1, id);
        }
        // Per plane three views, three fields and errors; two levels twice and the truth; three fine and two coarse
        // feature maps. The wheel and the ramp once.
        CHECK(occurrences(html, "data:image/png;base64,") == static_cast<std::size_t>(planes * (6 + 5 + 5) + 2));
        CHECK(occurrences(html, "<img alt=\"\"") == 0);
        CHECK(occurrences(html, "<img ") == occurrences(html, "<img alt="));
        CHECK(occurrences(html, "class=\"chart\"") == 9);
        CHECK(occurrences(html, "<title id=") == 9);
        CHECK(occurrences(html, "aspect-ratio:") == (planes == 3 ? 3 * 16u : 0u));
        CHECK(html.find("prefers-color-scheme: dark") != std::string::npos);
        CHECK(html.find("@media print") != std::string::npos);
        CHECK(html == render_report(report));
    }
}

TEST_CASE("report: ids are unique") {
    const auto html = without_pictures(render_report(some_report(16, 16, 3)));
    std::set<std::string> seen;
    for (auto at = html.find(" id=\""); at != std::string::npos; at = html.find(" id=\"", at + 1)) {
        const auto id = html.substr(at + 5, html.find('"', at + 5) - at - 5);
        CHECK_MESSAGE(seen.insert(id).second, id);
    }
    CHECK(seen.size() > 30);
}

TEST_CASE("report: noise in large pictures stays below three megabytes") {
    auto report = some_report(384, 384, 1);
    RandomStream random({.seed = 1, .purpose = Purpose::noise});
    for (auto* values : {&report.pairs[0].planes[0].moving, &report.pairs[0].planes[0].fixed})
        for (auto& value : *values) value = static_cast<float>(random.uniform());
    for (auto& level : report.features)
        for (auto* pictures : {&level.moving, &level.fixed, &level.warped})
            for (auto& picture : *pictures)
                for (auto& byte : picture) byte = static_cast<unsigned char>(random.below(256));
    report.pairs.assign(6, report.pairs[0]);
    const auto html = render_report(report);
    CHECK(html.size() < 3'000'000);
    CHECK(html.size() > 500'000);
}

TEST_CASE("report: a run without a step, without scores, and pictures of a wrong size") {
    const auto html = render_report({});
    CHECK(html.find("No step") != std::string::npos);
    CHECK(html.find("id=\"views\"") == std::string::npos);
    CHECK(tag_problem(html) == "");
    auto report = some_report(16, 16, 1);
    report.pairs[0].planes[0].mask.pop_back();
    CHECK_THROWS_AS(render_report(report), Error);
    report = some_report(16, 16, 1);
    report.pyramid.levels[0].own[0].pop_back();
    CHECK_THROWS_AS(render_report(report), Error);
    report = some_report(16, 16, 3);
    report.features[1].planes.pop_back();
    CHECK_THROWS_AS(render_report(report), Error);
}

TEST_CASE("report: linear and logarithmic axes, values that are not finite, a single value") {
    Chart chart;
    chart.title = "a & b";
    chart.x_label = "step";
    chart.y = Chart::Scale::logarithmic_where_it_fits;
    chart.curves = {{"values", {1, 2, 3}, {1, 2, 3}, 1, Curve::Style::line}};
    CHECK(chart_figure(chart).find("logarithmic") == std::string::npos);
    chart.curves[0].y = {0.01, 1, 100};
    CHECK(chart_figure(chart).find("logarithmic") != std::string::npos);
    chart.curves[0].y = {0, 1, 100};  // zero has no logarithm
    CHECK(chart_figure(chart).find("logarithmic") == std::string::npos);
    chart.curves[0].y = {std::nan(""), std::numeric_limits<double>::infinity(), 2};
    const auto single = chart_figure(chart);
    CHECK(!has_word(single, "nan"));
    CHECK(!has_word(single, "inf"));
    CHECK(single.find("h0\"") != std::string::npos);  // a point alone is drawn
    chart.curves[0].y = {std::nan(""), std::nan(""), std::nan("")};
    CHECK(chart_figure(chart).find("No finite value") != std::string::npos);
    CHECK(tag_problem(chart_figure(chart)) == "");
}

TEST_CASE("run log: repeated steps, foreign lines, a torn end") {
    const test::TemporaryFolder folder;
    const auto path = folder.path() + "/log.jsonl";
    const auto step = [](int number, double loss) {
        return text(R"({"event":"step","step":)", number, R"(,"loss":)", loss, R"(,"loss_vec_ratio":null})", "\n");
    };
    std::string log = R"({"event":"start","beyond_reach":0.25,"threads":3})"
                      "\n";
    log += step(1, 5) + step(2, 4) + step(3, 3) +
           R"({"event":"holdout","step":3,"loss":9})"
           "\n";
    log += R"({"event":"resume","step":1})"
           "\n" +
           step(2, 40) + "no json\n[1,2]\n" + step(3, 30);
    log += R"({"event":"holdout","step":3,"loss":8})"
           "\n"
           R"({"event":"redrawn","step":3,"samples":2})"
           "\n";
    write_file(path, log + R"({"event":"step","step":4,"lo)");
    const auto torn = read_run_log(path);
    REQUIRE(torn.steps.size() == 3);
    CHECK(torn.steps[0].loss == 5);
    CHECK(torn.steps[1].loss == 40);
    CHECK(torn.steps[2].loss == 30);
    CHECK(std::isnan(torn.steps[2].loss_vec_ratio));
    REQUIRE(torn.heldout.size() == 1);
    CHECK(torn.heldout[0].loss == 8);
    CHECK(torn.beyond_reach == 0.25);
    CHECK(torn.redrawn == 2);
    CHECK(torn.resumed == 1);
    CHECK(torn.ended.empty());
    REQUIRE(torn.notes.size() == 2);
    CHECK(torn.notes[0].find("last line") != std::string::npos);
    CHECK(torn.notes[1].find("2 lines") != std::string::npos);
    CHECK(torn.notes[1].find("line 8") != std::string::npos);

    // What a rollback undid is gone, also where nothing follows.
    write_file(path, step(1, 5) + step(2, 4) +
                         R"({"event":"nonfinite","step":3})"
                         "\n"
                         R"({"event":"rollback","step":1})"
                         "\n");
    CHECK(read_run_log(path).steps.size() == 1);
    CHECK(read_run_log(path).rollbacks == 1);
    CHECK(read_run_log(path).nonfinite == 1);

    // A line that only lacks its end is whole.
    write_file(path, step(1, 5) + R"({"event":"stop","why":"finished","seconds":12.5,"peak_bytes":7})");
    const auto whole = read_run_log(path);
    CHECK(whole.notes.empty());
    CHECK(whole.ended == "finished");
    CHECK(whole.run_seconds == 12.5);
    CHECK(whole.peak_bytes == 7);
    write_file(path, "");
    CHECK(read_run_log(path).steps.empty());
    write_file(path, std::string(std::size_t{3} << 20, 'x') + "\n" + step(1, 5));
    CHECK(read_run_log(path).steps.size() == 1);
    CHECK(read_run_log(path).notes.size() == 1);
    CHECK_THROWS_AS(read_run_log(folder.path() + "/none"), Error);
}

TEST_CASE("report: base64, running mean, colours of the wheel") {
    CHECK(base64("") == "");
    CHECK(base64("f") == "Zg==");
    CHECK(base64("fo") == "Zm8=");
    CHECK(base64("foobar") == "Zm9vYmFy");
    CHECK(base64(std::string_view("\xff\x00\xfe", 3)) == "/wD+");

    const auto mean = running_mean({1, 3, std::nan(""), 5}, 2);
    CHECK(mean[0] == 1);
    CHECK(mean[1] == 2);
    CHECK(mean[2] == 3);
    CHECK(mean[3] == 5);

    unsigned char rgb[3];
    wheel_colour(0, 0, 1, rgb);
    CHECK((rgb[0] == 255 && rgb[1] == 255 && rgb[2] == 255));
    wheel_colour(0, 1, 1, rgb);  // right
    CHECK((rgb[0] == 255 && rgb[1] == 0 && rgb[2] == 0));
    wheel_colour(0, -1, 1, rgb);  // left: opposite
    CHECK((rgb[0] == 0 && rgb[1] == 255 && rgb[2] == 255));
    unsigned char down[3], up[3];
    wheel_colour(1, 0, 1, down);
    wheel_colour(-1, 0, 1, up);
    CHECK((down[0] != up[0] || down[1] != up[1] || down[2] != up[2]));
    wheel_colour(std::nan(""), 0, 1, rgb);
    CHECK((rgb[0] == 0 && rgb[1] == 0 && rgb[2] == 0));
}

TEST_CASE("progress: lines for a terminal of any width and for a file") {
    const ProgressPoint point{50, 12.5, 0.75, 8.25, 3725};
    const auto plain = progress_line(point, 200, 0);
    CHECK(plain.find("step 50/200") != std::string::npos);
    CHECK(plain.find("0.750") != std::string::npos);
    CHECK(plain.find("1 h 02 min left") != std::string::npos);
    for (const int width : {20, 40, 80, 120, 300})
        CHECK(static_cast<int>(progress_line(point, 200, width).size()) < width);
    CHECK(progress_line(point, 200, 140).find("[==========    ") != std::string::npos);
    CHECK(duration_text(59.4) == "59 s");
    CHECK(duration_text(185) == "3 min 05 s");
    CHECK(duration_text(std::nan("")) == "?");
}

TEST_CASE("log: one object per line, appended, null where a number is not finite") {
    const test::TemporaryFolder folder;
    const auto path = folder.path() + "/log.jsonl";
    {
        Log log(path);
        log.write({{"event", "step"}, {"loss", std::nan("")}, {"path", "\xff"}});
    }
    {
        Log log(path);
        log.write({{"event", "stop"}});
    }
    const auto text = read_file(path);
    REQUIRE(occurrences(text, "\n") == 2);
    const auto first = nlohmann::json::parse(text.substr(0, text.find('\n')));
    CHECK(first["event"] == "step");
    CHECK(first["loss"].is_null());
    CHECK_THROWS_AS(Log(folder.path() + "/no/log.jsonl"), Error);
    if (std::FILE* full = std::fopen("/dev/full", "w")) {
        std::fclose(full);
        Log log("/dev/full");
        log.write({{"event", "step"}});  // waits in memory: a full disk does not end a run
        CHECK(!log.trouble().empty());
        CHECK(!log.flush());
        CHECK_THROWS_AS(log.require_written(), Error);
    }
}

}  // namespace cover::app
