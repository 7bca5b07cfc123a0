// cover apply: a trained network on new images, its results on their own grid.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "app/applied_network.h"
#include "app/commands.h"
#include "core/check.h"
#include "core/file.h"
#include "cover/principal_components.h"
#include "data/image.h"
#include "data/lay_back.h"
#include "data/npy.h"
#include "data/prepare_inputs.h"

namespace cover::app {
namespace {

namespace fs = std::filesystem;

// One image of an input file: `index` counts the volumes of a NIfTI file or the samples of a patch file.
struct Item {
    InputFile file;
    InputKind kind = InputKind::unknown;
    std::int64_t index = 0, of = 1;
    std::string name() const { return of > 1 ? text(file.path, ", image ", index) : file.path; }
    // "sub/a.3": below the output folder, without an ending.
    std::string stem() const {
        const auto folder = fs::path(file.source).parent_path() / stem_of(file.source);
        return of > 1 ? text(folder.string(), ".", index) : folder.string();
    }
};

// What becomes one output file. Without a second item `moving` is not looked at.
struct Job {
    Item moving, fixed;
    bool pair = false;
    std::string output;
};

// Hands out the images of one file in order without opening it anew for each.
class ItemReader {
public:
    explicit ItemReader(const AppliedNetwork& network) : network_(network) {}

    // How many images the file holds. Throws Error(data) for one that does not suit the network.
    static std::int64_t count(const InputFile& file, InputKind kind, const AppliedNetwork& network) {
        const int dims = network.spatial_dims(), channels = network.in_channels();
        switch (kind) {
        case InputKind::picture:
            require(dims == 2, ErrorKind::data, "[apply] ", file.path, ": is a picture, the network is for volumes");
            require(channels == 1 || channels == 3, ErrorKind::data, "[apply] ", file.path,
                    ": is a picture of 1 or 3 channels, the network takes ", channels);
            return 1;
        case InputKind::volume: {
            require(dims == 3, ErrorKind::data, "[apply] ", file.path, ": is a volume, the network is for 2D images");
            require(channels == 1, ErrorKind::data, "[apply] ", file.path,
                    ": is a volume of one channel, the network takes ", channels);
            return VolumeInput(file.path).volumes();
        }
        case InputKind::hdf5: {
            const PatchFile patches = PatchFile::open({file.path});
            require(patches.spatial_dims() == dims && patches.channels() == channels, ErrorKind::data, "[apply] ",
                    file.path, ": has ", patches.spatial_dims(), "D images of ", patches.channels(),
                    " channels, the network takes ", dims, "D images of ", channels);
            return patches.sample_count();
        }
        case InputKind::unknown: break;
        }
        fail(ErrorKind::data, text("[apply] ", file.path, ": neither a PNG, a JPEG, a NIfTI nor an HDF5 file"));
    }

    // Preprocessed. A patch file's images are taken as they are: they have been through `prepare`.
    Sample read(const Item& item, std::int64_t& non_finite) {
        Sample sample;
        switch (item.kind) {
        case InputKind::picture: sample = read_picture_sample(item.file.path, network_.in_channels()); break;
        case InputKind::volume:
            if (!volumes_ || path_ != item.file.path || next_ > item.index) {
                volumes_ = std::make_unique<VolumeInput>(item.file.path);
                path_ = item.file.path;
                next_ = 0;
            }
            for (; next_ <= item.index; ++next_) sample = volumes_->next();
            break;
        default:
            if (!patches_ || path_ != item.file.path) patches_ = PatchFile::open({item.file.path});
            path_ = item.file.path;
            sample = read_stored_sample(*patches_, item.index, LabelKind::none);
            non_finite = 0;
            return sample;
        }
        non_finite = preprocess(sample, network_.preprocessing());
        return sample;
    }

    // For an output that lies where the sample does.
    NiftiHeader header(const Sample& sample) const {
        if (volumes_) return volumes_->header();
        return make_nifti_header(sample.source_shape, sample.source_affine);
    }

private:
    const AppliedNetwork& network_;
    std::string path_;
    std::unique_ptr<VolumeInput> volumes_;
    std::optional<PatchFile> patches_;
    std::int64_t next_ = 0;
};

class Application {
public:
    Application(const ApplyOptions& options, AppliedNetwork& network, Stream& stream)
        : options_(options), network_(network), stream_(stream), reader_(network) {}

    int go() {
        const auto start = std::chrono::steady_clock::now();
        plan();
        if (options_.what == "rgb") fit_colours();
        for (const Job& job : jobs_) {
            if (failed_.contains(job.output)) continue;
            guarded(job, [&] { write(job); });
        }
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        return summary(seconds);
    }

private:
    // A bad input is named, counted and skipped; an output that cannot be written ends the work.
    template <class Body>
    void guarded(const Job& job, Body body) {
        try {
            reading_ = true;
            body();
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::data && !(error.kind() == ErrorKind::io && reading_)) throw;
            failed_.insert(job.output);
            refuse(job.fixed.name(), error.what());
        }
    }

    void refuse(const std::string& path, const std::string& sentence) {
        std::fprintf(stderr, "%s\n", sentence.c_str());
        bad_.push_back({path, sentence});
    }

    std::string ending() const {
        const bool volume = network_.spatial_dims() == 3;
        if (options_.what == "rgb") return volume ? ".rgb.nii.gz" : ".rgb.png";
        return "." + options_.what + (volume ? ".nii.gz" : ".npy");
    }

    std::vector<Item> items_of(const InputFile& file) {
        std::vector<Item> items;
        try {
            const InputKind kind = kind_of(file.path);
            const std::int64_t count = ItemReader::count(file, kind, network_);
            for (std::int64_t i = 0; i < count; ++i) items.push_back({file, kind, i, count});
        } catch (const Error& error) {
            if (error.kind() != ErrorKind::data && error.kind() != ErrorKind::io) throw;
            refuse(file.path, error.what());
        }
        return items;
    }

    void plan() {
        options_.what == "displacement" ? plan_pairs() : plan_images();
        std::set<std::string> names;
        std::string there;
        int count = 0;
        std::vector<Job> kept;
        for (Job& job : jobs_) {
            const std::string stem = job.pair
                                         ? job.moving.stem() + "_to_" + fs::path(job.fixed.stem()).filename().string()
                                         : job.fixed.stem();
            job.output = (fs::path(options_.out) / (stem + ending())).string();
            if (!names.insert(job.output).second) {
                refuse(job.fixed.name(), text("[apply] ", job.fixed.name(), ": its result would be ", job.output,
                                              ", which another input of the same name has; rename one of them"));
                continue;
            }
            std::error_code error;
            if (fs::exists(job.output, error) && !options_.overwrite && ++count <= 5) there += "\n  " + job.output;
            kept.push_back(std::move(job));
        }
        jobs_ = std::move(kept);
        require(count == 0, ErrorKind::configuration, "[apply] ", count,
                " of the results are there already; name another --out or add --overwrite:", there,
                count > 5 ? "\n  and more" : "");
    }

    void plan_images() {
        cover::PrepareOptions inputs;
        inputs.inputs = options_.inputs;
        std::vector<BadInput> bad;
        for (const InputFile& file : find_inputs(inputs, bad))
            for (Item& item : items_of(file)) jobs_.push_back({{}, std::move(item), false, {}});
        for (const auto& b : bad) refuse(b.path, b.sentence);
    }

    void plan_pairs() {
        const auto& inputs = options_.inputs;
        for (const auto& input : inputs) {
            std::error_code error;
            require(!fs::is_directory(input, error), ErrorKind::usage, "[apply] ", input,
                    ": is a folder; --what displacement takes pairs of files, MOVING FIXED");
        }
        require(inputs.size() % 2 == 0, ErrorKind::usage, "[apply] --what displacement takes pairs, MOVING FIXED; ",
                inputs.size(), " files were named");
        for (std::size_t i = 0; i < inputs.size(); i += 2) {
            std::vector<Item> items;
            for (const auto& path : {inputs[i], inputs[i + 1]}) {
                const InputFile file{path, fs::path(path).filename().string(), stem_of(path)};
                const auto found = items_of(file);
                if (found.size() == 1)
                    items.push_back(found[0]);
                else if (found.size() > 1)
                    refuse(path, text("[apply] ", path, ": holds ", found.size(),
                                      " images; a pair is made of files of one image"));
            }
            if (items.size() == 2) jobs_.push_back({items[0], items[1], true, {}});
        }
    }

    Sample read(const Item& item) {
        std::int64_t non_finite = 0;
        Sample sample = reader_.read(item, non_finite);
        if (non_finite > 0 && noted_.insert(item.name()).second)
            std::fprintf(stderr, "%s: %lld values were NaN or infinite and became the image's minimum\n",
                         item.name().c_str(), static_cast<long long>(non_finite));
        return sample;
    }

    // Before anything large is allocated.
    void require_memory(const Sample& sample, std::int64_t channels, int views, std::int64_t out_bytes) const {
        const SourceGrid source = source_grid(sample);
        const std::int64_t need = sample.grid.pixels() * (views * network_.in_channels() * 2 + channels) * 4 +
                                  source.grid.pixels() * out_bytes + network_.tile_bytes(sample.grid, views);
        const auto have = static_cast<std::int64_t>(available_bytes());
        require(have == 0 || need <= have, ErrorKind::device, "[apply] ", sample.where, ": needs about ",
                fmt::format("{:.1f} GiB of memory, {:.1f} GiB are there", static_cast<double>(need) / (1 << 30),
                            static_cast<double>(have) / (1 << 30)),
                "; take a smaller --tile, a smaller image or another machine");
    }

    // One set of axes for all images, so that a colour means the same in each.
    void fit_colours() {
        ComponentAnalysis analysis(network_.feature_channels());
        for (const Job& job : jobs_)
            guarded(job, [&] {
                const Sample sample = read(job.fixed);
                require_memory(sample, network_.feature_channels(), 1, 16);
                const Tensor features = network_.features(sample);
                add_inside(analysis, sample, features);
                const std::int64_t bytes = static_cast<std::int64_t>(features.bytes());
                if (bytes > cache_left_) return;
                cache_left_ -= bytes;
                cache_.emplace(job.output, features);
            });
        colours_ = analysis.result(3);
    }

    // The features of the pixels that lie on the image, not on what was padded around it.
    void add_inside(ComponentAnalysis& analysis, const Sample& sample, const Tensor& features) const {
        const Grid& g = sample.grid;
        const auto inside = [&](const Point& p) {
            for (std::size_t a = 0; a < 3; ++a)
                if (!(p[a] >= -0.5 && p[a] <= static_cast<double>(sample.source_shape[a]) - 0.5)) return false;
            return true;
        };
        const float* row = features.data<float>();
        for (std::int64_t d = 0; d < g.d; ++d)
            for (std::int64_t h = 0; h < g.h; ++h)
                for (std::int64_t w = 0; w < g.w; ++w, row += network_.feature_channels())
                    if (inside(
                            sample.to_source({static_cast<double>(d), static_cast<double>(h), static_cast<double>(w)})))
                        analysis.add(row, 1);
    }

    void write(const Job& job) {
        std::vector<std::int64_t> shape;
        if (job.pair)
            shape = write_displacement(job);
        else if (options_.what == "rgb")
            shape = write_rgb(job);
        else
            shape = write_features(job);
        std::string sides;
        for (const std::int64_t side : shape) sides += text(sides.empty() ? "" : " x ", side);
        std::fprintf(stderr, "%s: %s\n", job.output.c_str(), sides.c_str());
        nlohmann::ordered_json entry{{"input", job.fixed.file.path}, {"output", job.output}, {"shape", shape}};
        if (job.fixed.of > 1) entry["index"] = job.fixed.index;
        if (job.pair) entry["moving"] = job.moving.file.path;
        results_.push_back(std::move(entry));
    }

    // An output, and the folder that it lies in.
    void begin_output(const std::string& path) {
        reading_ = false;
        create_folder(fs::path(path).parent_path().string().empty() ? "." : fs::path(path).parent_path().string());
    }

    std::vector<std::int64_t> write_features(const Job& job) {
        const Sample sample = read(job.fixed);
        const int channels = network_.feature_channels();
        require_memory(sample, channels, 1, 4 * channels);
        const Tensor features = network_.features(sample);
        const SourceGrid source = source_grid(sample);
        const Grid& g = source.grid;
        if (g.spatial_dims == 2) {
            const auto values =
                lay_back(features.data<float>(), sample.grid, channels, g, source.to_stored, *stream_.pool);
            begin_output(job.output);
            write_npy(job.output, {g.h, g.w, channels}, values);
            return {g.h, g.w, channels};
        }
        // A volume per channel, each laid back on its own.
        std::vector<float> values, one(static_cast<std::size_t>(sample.grid.pixels()));
        values.reserve(static_cast<std::size_t>(g.pixels() * channels));
        for (int c = 0; c < channels; ++c) {
            for (std::size_t p = 0; p < one.size(); ++p)
                one[p] = features.data<float>()[p * static_cast<std::size_t>(channels) + static_cast<std::size_t>(c)];
            const auto channel = lay_back(one.data(), sample.grid, 1, g, source.to_stored, *stream_.pool);
            values.insert(values.end(), channel.begin(), channel.end());
        }
        write_volume(job, sample, {.volumes = channels, .description = "COVER features"}, values.data());
        return {g.w, g.h, g.d, channels};
    }

    std::vector<std::int64_t> write_rgb(const Job& job) {
        const Sample sample = read(job.fixed);
        Tensor features;
        if (const auto cached = cache_.find(job.output); cached != cache_.end()) {
            features = cached->second;
            cache_.erase(cached);
        } else {
            features = network_.features(sample);
        }
        std::vector<unsigned char> colours(static_cast<std::size_t>(sample.grid.pixels() * 3));
        component_colours(colours_, features.data<float>(), sample.grid.pixels(), colours.data());
        const std::vector<float> stored(colours.begin(), colours.end());
        const SourceGrid source = source_grid(sample);
        const Grid& g = source.grid;
        const auto values = lay_back(stored.data(), sample.grid, 3, g, source.to_stored, *stream_.pool);
        std::vector<unsigned char> rgb;
        rgb.reserve(values.size());
        for (const float v : values) rgb.push_back(static_cast<unsigned char>(std::lround(std::clamp(v, 0.f, 255.f))));
        if (g.spatial_dims == 2) {
            begin_output(job.output);
            write_file(job.output, encode_png(g.w, g.h, rgb.data()));
            return {g.h, g.w, 3};
        }
        write_volume(job, sample, {.type = NiftiType::rgb24, .description = "COVER features, PCA to RGB"}, rgb.data());
        return {g.w, g.h, g.d, 3};
    }

    std::vector<std::int64_t> write_displacement(const Job& job) {
        const Sample moving = read(job.moving), fixed = read(job.fixed);
        require(moving.grid == fixed.grid, ErrorKind::data, "[apply] ", moving.where, " and ", fixed.where,
                ": are of different sizes when prepared for this network (", describe(moving.grid), " and ",
                describe(fixed.grid), "); resample one onto the grid of the other");
        require_memory(fixed, network_.spatial_dims(), 2, 24);
        const Tensor field = network_.displacement(moving, fixed);
        const auto vectors = source_displacement(field, moving, fixed, *stream_.pool);
        const Grid g = source_grid(fixed).grid;
        if (g.spatial_dims == 2) {
            begin_output(job.output);
            write_npy(job.output, {g.h, g.w, 2}, vectors);
            return {g.h, g.w, 2};
        }
        std::vector<float> planes(vectors.size());
        const auto voxels = static_cast<std::size_t>(g.pixels());
        for (std::size_t p = 0; p < voxels; ++p)
            for (std::size_t a = 0; a < 3; ++a) planes[a * voxels + p] = vectors[3 * p + a];
        write_volume(job, fixed, {.volumes = 3, .vector_valued = true, .description = "COVER displacement, mm, RAS+"},
                     planes.data());
        return {g.w, g.h, g.d, 3};
    }

    void write_volume(const Job& job, const Sample& sample, const NiftiOutput& output, const void* values) {
        const NiftiHeader header = reader_.header(sample);
        begin_output(job.output);
        write_nifti(job.output, header, output, values);
    }

    static std::string describe(const Grid& g) {
        return g.spatial_dims == 2 ? text(g.h, " x ", g.w) : text(g.d, " x ", g.h, " x ", g.w);
    }

    int summary(double seconds) const {
        require(!results_.empty(), ErrorKind::data, "[apply] nothing could be used; no result was written",
                bad_.empty() ? ": no picture, volume or patch file was found" : "");
        if (!bad_.empty()) std::fprintf(stderr, "%zu inputs were skipped\n", bad_.size());
        if (!options_.json) {
            std::printf("results %zu\nskipped %zu\n", results_.size(), bad_.size());
            return 0;
        }
        nlohmann::ordered_json out{
            {"what", options_.what}, {"results", results_}, {"skipped", nlohmann::json::array()}};
        for (const auto& bad : bad_) out["skipped"].push_back({{"input", bad.path}, {"why", bad.sentence}});
        out["seconds"] = seconds;
        std::printf("%s\n", out.dump(1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
        return 0;
    }

    const ApplyOptions& options_;
    AppliedNetwork& network_;
    Stream& stream_;
    ItemReader reader_;
    std::vector<Job> jobs_;
    std::vector<BadInput> bad_;
    std::set<std::string> failed_, noted_;
    nlohmann::ordered_json results_ = nlohmann::ordered_json::array();
    PrincipalComponents colours_;
    // Features of the first images, so that a few images are not computed twice; at most this many bytes.
    std::map<std::string, Tensor> cache_;
    std::int64_t cache_left_ = std::int64_t{512} << 20;
    bool reading_ = true;  // false while an output is written: its errors are not an input's
};

// "whole", "128" or "64x96x96"; nothing: the patch of the training run.
std::optional<TileSides> parse_tile(const std::string& tile, int dims) {
    if (tile.empty()) return std::nullopt;
    if (tile == "whole") return TileSides{};
    const auto sides = parse_sides(tile);
    require(sides.size() == 1 || sides.size() == static_cast<std::size_t>(dims), ErrorKind::usage, "[apply] --tile ",
            tile, ": one side or ", dims, " are expected");
    TileSides out{};
    for (std::size_t a = 0; a < static_cast<std::size_t>(dims); ++a) {
        const std::int64_t side = sides[sides.size() == 1 ? 0 : a];
        require(side % 16 == 0, ErrorKind::usage, "[apply] --tile ", tile, ": ", side, " is no multiple of 16");
        out[a + 3 - static_cast<std::size_t>(dims)] = side;
    }
    return out;
}

}  // namespace

int run(const ApplyOptions& options) {
    require(options.what != "segmentation", ErrorKind::data, "[apply] ", options.weights,
            ": has no segmentation head, only a pretrained network; features, rgb and displacement can be had of it");
    TrainConfig config = resolve_config(options.config);
    Machine machine(config);
    require(machine.dtype() != DType::float64, ErrorKind::configuration,
            "[apply] precision: fp64 is for `cover verify` only; take fp32");
    AppliedNetwork network(options.weights, options.what == "displacement", machine.dtype(), machine.stream());
    if (const auto tile = parse_tile(options.tile, network.spatial_dims())) network.set_tile(*tile);
    if (!network.knows_preprocessing())
        std::fprintf(stderr,
                     "%s does not say how its training images were prepared: images keep their size, their values are "
                     "brought to [0, 1]\n",
                     options.weights.c_str());
    return Application(options, network, machine.stream()).go();
}

}  // namespace cover::app
