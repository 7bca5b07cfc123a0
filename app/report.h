// report.html: one self-contained page without scripts, legible in light and dark, on paper and on a phone. What it
// shows comes in as plain numbers: from a run folder by app/report_build.h, the pictures by app/report_study.h.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "app/run_log.h"
#include "cover/evaluate.h"

namespace cover::app {

using Facts = std::vector<std::pair<std::string, std::string>>;

struct FactTable {
    std::string title;
    Facts rows;
};

// How a picture lies in its image. A picture is (height, width), row by row. In 2D it is the image, and the second
// component of a field points right, the first down. In 3D it is a slice: see report_study.h.
struct Plane {
    std::string name;  // "H, W"; of a slice also where it lies
    int height = 0, width = 0;
    double pixel_aspect = 1;  // width of a pixel over its height, in mm
};

// One sample's views and fields on one plane.
struct PlaneViews {
    Plane plane;
    std::vector<float> moving, fixed;     // (H, W); [0, 1] is shown from black to white
    std::vector<float> mask;              // (H, W), 1 where the true displacement stays inside
    std::vector<float> truth, predicted;  // (H, W, 2), pixels, (down, right)
};

struct ViewPair {
    std::string caption;
    double epe = 0, length = 0;  // mean |psi' - psi|_2 and |psi|_2 over its valid pixels, pixels; NaN without any
    double valid = 0;            // share of valid pixels
    std::vector<PlaneViews> planes;
};

// One level of the pyramid, brought to full resolution and its pixels.
struct LevelField {
    std::string grid;                     // where its vectors are found: "4 x 4"
    double reach = 0;                     // largest component that this level can add, pixels of full resolution
    double added = 0;                     // mean length of what it added, over all pixels
    double epe = 0;                       // mean error of the running sum over the valid pixels; NaN without any
    std::vector<std::vector<float>> own;  // (H, W, 2) per plane: this level's vectors
    std::vector<std::vector<float>> sum;  // (H, W, 2) per plane: the prediction if the pyramid ended here
};

// The pyramid on the first of the pairs.
struct LevelStudy {
    double length = 0;               // mean |psi|_2 over the valid pixels, the error of no displacement at all
    std::vector<LevelField> levels;  // coarse to fine
};

// Colours (H, W, 3) per plane of feature vectors by their first three principal components, one basis for both views of
// the first pair. H and W are those of the level's grid.
struct FeatureLevel {
    std::string grid;
    std::int64_t channels = 0;
    std::vector<double> shares;  // of the variance, up to three
    std::vector<Plane> planes;
    std::vector<std::vector<unsigned char>> moving, fixed;
    std::vector<std::vector<unsigned char>> warped;  // the moving view's at i + psi_i; full resolution only
};

// Valid pixels by the largest component of their true displacement: bin i covers [i, i + 1) * width pixels.
struct BySize {
    double width = 0;
    std::vector<double> share;   // of all valid pixels
    std::vector<double> error;   // mean |psi' - psi|_2; NaN in an empty bin
    std::vector<double> length;  // mean |psi|_2; NaN in an empty bin
};

struct RunReport {
    std::string title;
    std::string summary;              // one or two sentences
    std::vector<std::string> notes;   // what is missing or damaged, whole sentences
    std::vector<FactTable> facts;     // what ran, on what, how long
    std::vector<FactTable> settings;  // every key of config.toml, by group
    RunLog log;
    int dims = 2;     // 3: lengths are in voxels
    double clip = 0;  // the gradient norm is cut there
    std::int64_t steps_planned = 0;

    // From weights and data; without them everything below is empty.
    std::string sample_origin;  // "images held out of training"
    Evaluation scores;          // scores.pairs is 0 when there are none
    BySize by_size;
    double reach = 0;  // of the pyramid, pixels
    std::vector<ViewPair> pairs;
    LevelStudy pyramid;
    std::vector<FeatureLevel> features;  // fine to coarse
};

// The whole page: the same bytes for the same report. Pictures are made smaller until it is below 3 MB. Throws
// Error(internal) when a vector's length does not fit its height and width.
std::string render_report(const RunReport& report);

// Mean of each value and up to `window` - 1 before it; a value that is not finite is left out.
std::vector<double> running_mean(const std::vector<double>& values, int window);

// Mean over the last 25 steps; NaN without steps.
double mean_of_last(const std::vector<StepPoint>& steps, double StepPoint::*value);

}  // namespace cover::app
