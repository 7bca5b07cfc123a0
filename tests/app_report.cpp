#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "app/log.h"
#include "app/progress.h"
#include "app/report.h"
#include "app/report_parts.h"
#include "core/check.h"
#include "core/file.h"
#include "tests/support.h"

namespace cover::app {
namespace {

std::size_t occurrences(const std::string& text, const std::string& part) {
    std::size_t count = 0;
    for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
    return count;
}

ViewPair some_pair(int height, int width) {
    const auto pixels = static_cast<std::size_t>(height * width);
    ViewPair pair;
    pair.caption = "a <b> & 'c'";
    pair.height = height;
    pair.width = width;
    pair.moving.assign(pixels, 0.5f);
    pair.fixed.assign(pixels, 0.25f);
    pair.mask.assign(pixels, 1.0f);
    pair.truth.assign(2 * pixels, 3.0f);
    pair.predicted.assign(2 * pixels, std::numeric_limits<float>::quiet_NaN());
    return pair;
}

}  // namespace

TEST_CASE("report: self-contained, without scripts, everything escaped") {
    RunReport report;
    report.title = "<script>alert(1)</script>";
    report.summary = "a \"summary\" & more";
    report.facts = {{"<name>", "<value>"}};
    report.config = "key = \"</pre>\"";
    for (int step = 1; step <= 3000; ++step)
        report.steps.push_back({step, 10.0 / step, step == 7 ? std::nan("") : 0.5, 1.0 / step});
    report.heldout = {{500, 0.5}};
    report.pairs = {some_pair(16, 32)};
    const auto html = render_report(report);
    CHECK(html.find("<script") == std::string::npos);
    CHECK(html.find("http://") == std::string::npos);
    CHECK(html.find("https://") == std::string::npos);
    CHECK(html.find("</pre>\"") == std::string::npos);
    CHECK(html.find("a &lt;b&gt; &amp; &#39;c&#39;") != std::string::npos);
    CHECK(html.find("nan") == std::string::npos);
    CHECK(html.find("inf") == std::string::npos);
    CHECK(occurrences(html, "data:image/png;base64,") == 6);  // three views, two fields, the wheel
    CHECK(occurrences(html, "class=\"chart\"") == 3);
    CHECK(occurrences(html, "<svg") == occurrences(html, "</svg>"));
    CHECK(occurrences(html, "<figure") == occurrences(html, "</figure>"));
    CHECK(html.find("prefers-color-scheme: dark") != std::string::npos);
    CHECK(html.find("@media print") != std::string::npos);
    CHECK(html == render_report(report));
}

TEST_CASE("report: a run without a step, and pictures of a wrong size") {
    CHECK(render_report({}).find("No step") != std::string::npos);
    RunReport report;
    report.pairs = {some_pair(16, 16)};
    report.pairs[0].mask.pop_back();
    CHECK_THROWS_AS(render_report(report), Error);
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
