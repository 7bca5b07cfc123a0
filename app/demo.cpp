// cover demo: the main job from images to weights, on chest X-rays or volumes that come with the program.
#include <fmt/ranges.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "app/commands.h"
#include "app/evaluation.h"
#include "app/progress.h"
#include "app/training_run.h"
#include "app/weights.h"
#include "core/check.h"
#include "core/file.h"
#include "data/prepare.h"

namespace cover::app {
namespace {

namespace fs = std::filesystem;

// Beside an installed program, else in the sources that it was built from. COVER_SAMPLES names another place.
std::string samples_folder() {
    std::vector<std::string> places;
    if (const char* named = std::getenv("COVER_SAMPLES"); named && *named) {
        places.push_back(named);
    } else {
        std::error_code error;
        const auto program = fs::read_symlink("/proc/self/exe", error);
        if (!error) places.push_back((program.parent_path().parent_path() / "share/cover/samples").string());
        places.push_back(COVER_SOURCE_DIR "/data/samples");
    }
    std::string tried;
    for (const auto& place : places) {
        std::error_code error;
        if (fs::exists(place + "/train", error)) return place;
        tried += (tried.empty() ? "" : ", ") + place;
    }
    fail(ErrorKind::io, text("[demo] the sample images are in none of ", tried,
                             "; set COVER_SAMPLES to the folder data/samples of the sources"));
}

// A second demo may replace what an earlier one made, and nothing else.
void make_room(const std::string& out) {
    const std::string marker = out + "/made-by-cover-demo";
    std::error_code error;
    if (fs::exists(marker, error)) {
        fs::remove_all(out + "/run", error);
        require(!error, ErrorKind::io, "[demo] ", out, "/run: the earlier run cannot be removed: ", error.message());
    } else {
        require(!fs::exists(out, error) || fs::is_empty(out, error), ErrorKind::configuration, "[demo] ", out,
                ": is there already and was not made by `cover demo`; choose another --out");
        create_folder(out);
        write_file(marker, "cover demo may replace what is in this folder.\n");
    }
}

struct Demo {
    std::string samples;  // below the folder of the samples
    std::vector<std::int64_t> size;
    std::array<std::int64_t, 3> patch;
    std::int64_t batch, steps;
    double lr;
    std::string own_data, size_option, patch_option;  // for the user's own images
};

Demo demo_for(int dims) {
    if (dims == 2) return {"", {96, 96}, {1, 64, 64}, 8, 150, 3e-4, "YOUR_IMAGES/", "96", "64"};
    return {"/volumes", {48, 64, 48}, {32, 32, 32}, 2, 120, 3e-4, "YOUR_VOLUMES/", "48x64x48", "32"};
}

void prepare_folder(const std::string& images, const std::vector<std::int64_t>& size, const std::string& out) {
    cover::PrepareOptions options;
    options.inputs = {images};
    options.size = size;
    options.out = out;
    const auto result = prepare(options);
    for (const auto& bad : result.bad) std::fprintf(stderr, "%s\n", bad.sentence.c_str());
    std::fprintf(stderr, "%s: %lld images of %s\n", out.c_str(), static_cast<long long>(result.written),
                 fmt::format("{}", fmt::join(size, " x ")).c_str());
}

}  // namespace

int run(const DemoOptions& options) {
    require(options.dims == 2 || options.dims == 3, ErrorKind::usage, "[demo] --dims: is ", options.dims,
            "; 2 or 3 is expected");
    const Demo demo = demo_for(options.dims);
    const auto samples = samples_folder() + demo.samples;
    const std::string out = !options.out.empty() ? options.out : options.dims == 3 ? "cover-demo-3d" : "cover-demo";
    make_room(out);
    const std::string train_file = out + "/train.h5", heldout_file = out + "/held_out.h5", folder = out + "/run",
                      weights_file = out + "/cover.safetensors";

    std::fprintf(stderr, "1/4 prepare: %s\n", samples.c_str());
    prepare_folder(samples + "/train", demo.size, train_file);
    prepare_folder(samples + "/heldout", demo.size, heldout_file);

    std::fprintf(stderr, "2/4 pretrain\n");
    TrainConfig config;
    config.data = {train_file};
    config.patch = demo.patch;
    config.batch = demo.batch;
    config.steps = demo.steps;
    config.lr = demo.lr;
    config.degree = 1;
    config.threads = options.threads;
    config.seed = options.seed;
    const auto outcome = train(config, folder, {heldout_file});

    std::fprintf(stderr, "3/4 evaluate on images that were held out\n");
    ConfigSources machine;
    if (options.threads > 0) machine.options.emplace_back("threads", Values{text(options.threads)});
    const Evaluation scores = evaluate(folder, {heldout_file}, 64, 1, machine);

    std::fprintf(stderr, "4/4 export\n");
    ExportOptions exporting;
    exporting.run = folder;
    exporting.out = weights_file;
    run(exporting);

    std::fputs(fmt::format("loss_vec_ratio {:.4f}   last 25 steps of training; 1 is what a zero field scores\n"
                           "epe_ratio      {:.4f}   on {} pairs of held-out images: error as a share of the "
                           "displacement\n"
                           "consistency    {:.4f}   mean cosine of the features of matching pixels\n"
                           "time           {}\n"
                           "report         {}/report.html\n"
                           "weights        {}\n"
                           "run            {}\n"
                           "patch files    {}, {}\n\n"
                           "The same on your own images:\n"
                           "  cover prepare {} --size {} --out mine.h5\n"
                           "  cover pretrain --data mine.h5 --out my-run --patch {} --batch {} --steps {} --lr {:g} "
                           "--degree 1\n",
                           outcome.loss_vec_ratio, scores.epe_ratio, scores.pairs, scores.consistency,
                           duration_text(outcome.seconds), folder, weights_file, folder, train_file, heldout_file,
                           demo.own_data, demo.size_option, demo.patch_option, config.batch, config.steps, config.lr)
                   .c_str(),
               stdout);
    return 0;
}

}  // namespace cover::app
