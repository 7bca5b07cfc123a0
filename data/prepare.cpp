#include "data/prepare.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "data/patches.h"
#include "data/prepare_inputs.h"
#include "data/prepare_output.h"
#include "data/prepare_sample.h"
#include "data/quantise.h"

namespace cover {

namespace fs = std::filesystem;

namespace {

constexpr std::array<double, 2> hounsfield_window{-1000, 1000};

class Preparation {
public:
    explicit Preparation(const PrepareOptions& options) : options_(options), output_(options.out) {}

    PrepareResult run() {
        std::vector<InputFile> inputs = find_inputs(options_, result_.bad);
        if (options_.strict && !result_.bad.empty()) refuse(result_.bad[0]);
        if (!options_.labels.empty()) find_labels();
        std::int64_t done = 0;
        for (const InputFile& input : inputs) {
            guarded(input.path, [&] { read(input); });
            if (options_.progress) options_.progress(++done, static_cast<std::int64_t>(inputs.size()));
        }
        result_.written = output_.count();
        if (result_.written == 0) {
            std::string why = result_.bad.empty() ? ": no picture, volume or HDF5 file was found" : ":";
            for (std::size_t i = 0; i < result_.bad.size() && i < 20; ++i) why += "\n  " + result_.bad[i].sentence;
            if (result_.bad.size() > 20) why += text("\n  and ", result_.bad.size() - 20, " more");
            fail(ErrorKind::data, text("[prepare] nothing could be used, ", options_.out, " was not written", why));
        }
        result_.grid = output_.grid();
        result_.channels = output_.channels();
        result_.store = output_.store();
        if (result_.grid.spatial_dims == 3 && output_.spacing_ratio() > 1.01)
            result_.notes.push_back(text(options_.out, ": the volumes differ in spacing, by a factor of up to ",
                                         output_.spacing_ratio(), "; --spacing resamples them to one"));
        output_.write(preprocessing());
        return std::move(result_);
    }

private:
    [[noreturn]] static void refuse(const BadInput& bad) { fail(ErrorKind::data, bad.sentence); }

    // A bad input is named, counted and skipped; an error of the output ends the work.
    template <class Body>
    void guarded(const std::string& path, Body body) {
        try {
            reading_ = true;
            body();
        } catch (const Error& error) {
            if (options_.strict || (error.kind() != ErrorKind::data && !(error.kind() == ErrorKind::io && reading_)))
                throw;
            result_.bad.push_back({path, error.what()});
        }
    }

    void find_labels() {
        std::error_code error;
        require(fs::is_directory(options_.labels, error), ErrorKind::data, "[prepare] ", options_.labels,
                ": --labels needs a folder");
        std::vector<std::string> paths;
        const fs::directory_iterator entries(options_.labels, error);
        require(!error, ErrorKind::data, "[prepare] ", options_.labels,
                ": the folder cannot be read: ", error.message());
        for (const auto& entry : entries) {
            const InputKind kind =
                is_hidden(entry.path().string()) ? InputKind::unknown : kind_of(entry.path().string());
            if (kind == InputKind::picture || kind == InputKind::volume) paths.push_back(entry.path().string());
        }
        std::sort(paths.begin(), paths.end());
        for (const std::string& path : paths) label_paths_.emplace(stem_of(path), path);
    }

    // The label file of an input; nothing without --labels.
    std::optional<std::string> label_path(const InputFile& input) const {
        if (options_.labels.empty()) return std::nullopt;
        const auto found = label_paths_.find(stem_of(input.path));
        require(found != label_paths_.end(), ErrorKind::data, "[prepare] ", input.path, ": ", options_.labels,
                " holds no label of that name");
        return found->second;
    }

    void read(const InputFile& input) {
        switch (kind_of(input.path)) {
        case InputKind::picture: return read_picture(input);
        case InputKind::hdf5: return read_hdf5(input);
        case InputKind::volume: return read_volume(input);
        case InputKind::unknown: break;
        }
        fail(ErrorKind::data, text("[prepare] ", input.path, ": neither a PNG, a JPEG, a NIfTI nor an HDF5 file"));
    }

    void read_picture(const InputFile& input) {
        Sample s = read_picture_sample(input.path, options_.channels_in);
        s.subject = input.subject;
        s.source = input.source;
        if (const auto path = label_path(input)) {
            if (kind_of(*path) == InputKind::volume) {
                VolumeInput labels(*path);
                attach_label_volume(s, labels.next(), *path);
            } else {
                attach_label_picture(s, *path);
            }
        }
        add(std::move(s), true);
    }

    // Every volume of the file is a sample of the same subject.
    void read_volume(const InputFile& input) {
        require(options_.channels_in == 1, ErrorKind::usage, "[prepare] --channels-in 3 is for pictures, but ",
                input.path, " is a volume");
        VolumeInput file(input.path);
        std::optional<VolumeInput> label_file;
        const std::optional<std::string> path = label_path(input);
        Sample labels;
        if (path && kind_of(*path) == InputKind::volume) {
            label_file.emplace(*path);
            require(label_file->volumes() == 1 || label_file->volumes() == file.volumes(), ErrorKind::data,
                    "[prepare] ", *path, ": has ", label_file->volumes(), " volumes for the ", file.volumes(), " of ",
                    input.path);
            labels = label_file->next();
        }
        for (std::int64_t v = 0; v < file.volumes(); ++v) {
            Sample s = file.next();
            s.subject = input.subject;
            s.source = file.volumes() > 1 ? text(input.source, ":", v) : input.source;
            if (v > 0 && label_file && label_file->volumes() > 1) labels = label_file->next();
            const auto one = [&] {
                if (path) label_file ? attach_label_volume(s, labels, *path) : attach_label_picture(s, *path);
                add(std::move(s), false);
            };
            file.volumes() > 1 ? guarded(s.where, one) : one();
            reading_ = true;
        }
        oriented_ = true;
    }

    void read_hdf5(const InputFile& input) {
        require(options_.labels.empty(), ErrorKind::data, "[prepare] ", input.path,
                ": --labels goes with pictures and volumes, not with an HDF5 file, whose own /labels go along");
        const PatchAccess access{.sequential = true, .stored_units = true, .allow_non_finite = true};
        const PatchFile file = PatchFile::open({input.path}, access);
        const H5Type type = file.type(0);
        bool keep = type.kind == H5Kind::integer && !type.is_signed && type.size <= 2;
        if (type.kind == H5Kind::floating) keep = lies_in_unit_range(PatchFile::open({input.path}, access));
        LabelKind labels = LabelKind::none;
        try {
            labels = file.label_kind();
        } catch (const Error& error) {
            if (options_.strict) throw;
            result_.notes.push_back(text(error.what(), "; they were left out"));
        }
        for (std::int64_t i = 0; i < file.sample_count(); ++i) {
            const auto one = [&] {
                Sample s = read_stored_sample(file, i, labels);
                s.in_range = keep;
                add(std::move(s), false);
            };
            // A stream that broke off has no next sample.
            file.streamed() ? one() : guarded(file.where(i), one);
            reading_ = true;
        }
    }

    static bool lies_in_unit_range(const PatchFile& file) {
        std::vector<float> values(static_cast<std::size_t>(file.grid().pixels() * file.channels()));
        for (std::int64_t i = 0; i < file.sample_count(); ++i) {
            file.read_sample(i, values.data());
            for (const float v : values)
                if (std::isfinite(v) && (v < 0 || v > 1)) return false;
        }
        return true;
    }

    void add(Sample s, bool picture) {
        Normalisation method = options_.normalise;
        if (method == Normalisation::automatic) method = s.in_range ? Normalisation::range : Normalisation::minmax;
        require(method != Normalisation::ct || options_.window || !picture, ErrorKind::usage,
                "[prepare] --normalize ct cuts at -1000 and 1000 Hounsfield units, but ", s.where,
                " is a picture; say which of its values to keep: --window LO,HI");
        if (method == Normalisation::range && !s.in_range && s.type_range == std::array<double, 2>{0, 1})
            for (const float v : s.values)
                require(!std::isfinite(v) || (v >= 0 && v <= 1), ErrorKind::data, "[prepare] ", s.where,
                        ": --normalize range takes floats as they are, between 0 and 1, but it holds ",
                        static_cast<double>(v), "; use minmax or percentile");
        const Normalised normalised =
            normalise(s.values, method, s.type_range, options_.window.value_or(hounsfield_window));
        require(normalised.refusal.empty(), ErrorKind::data, "[prepare] ", s.where, ": ", normalised.refusal);
        fit(s, options_, picture);
        if (output_.count() == 0) method_ = method;
        reading_ = false;
        output_.add(s, options_.store);
        if (normalised.non_finite > 0)
            result_.notes.push_back(text(s.where, ": ", normalised.non_finite,
                                         " values were NaN or infinite and became the image's minimum"));
    }

    std::string preprocessing() const {
        static const std::map<Normalisation, const char*> names = {{Normalisation::range, "range"},
                                                                   {Normalisation::minmax, "minmax"},
                                                                   {Normalisation::percentile, "percentile"},
                                                                   {Normalisation::zscore, "zscore"},
                                                                   {Normalisation::ct, "ct"}};
        const Grid g = output_.grid();
        nlohmann::json j;
        j["size"] =
            g.spatial_dims == 3 ? std::vector<std::int64_t>{g.d, g.h, g.w} : std::vector<std::int64_t>{g.h, g.w};
        j["channels"] = output_.channels();
        j["normalize"] = names.at(method_);
        if (method_ == Normalisation::ct) j["window"] = options_.window.value_or(hounsfield_window);
        j["store"] = name_of(output_.store());
        j["resample"] = "triangle, antialiased";
        j["keep_aspect"] = options_.keep_aspect;
        if (!options_.spacing.empty()) j["spacing"] = options_.spacing;
        if (oriented_) j["orientation"] = "RAS";
        return j.dump();
    }

    const PrepareOptions& options_;
    PrepareResult result_;
    PrepareOutput output_;
    std::map<std::string, std::string> label_paths_;
    Normalisation method_ = Normalisation::range;
    bool oriented_ = false;  // volumes were turned to right, anterior, superior
    bool reading_ = true;    // false while the output is written: its errors are not an input's
};

}  // namespace

Normalisation parse_normalisation(const std::string& name) {
    if (name == "range") return Normalisation::range;
    if (name == "minmax") return Normalisation::minmax;
    if (name == "percentile") return Normalisation::percentile;
    if (name == "zscore") return Normalisation::zscore;
    if (name == "ct") return Normalisation::ct;
    fail(ErrorKind::usage,
         text("[prepare] --normalize ", name, ": there are range, minmax, percentile, zscore and ct"));
}

H5Store parse_store(const std::string& name) {
    for (const H5Store store : {H5Store::uint8, H5Store::uint16, H5Store::float16, H5Store::float32})
        if (name == name_of(store)) return store;
    fail(ErrorKind::usage, text("[prepare] --store ", name, ": there are uint8, uint16, float16 and float32"));
}

std::vector<std::int64_t> parse_sides(const std::string& sides) {
    std::vector<std::int64_t> out;
    const char* at = sides.data();
    const char* end = at + sides.size();
    for (bool more = true; more;) {
        std::int64_t side = 0;
        const auto [next, error] = std::from_chars(at, end, side);
        require(error == std::errc() && side >= 1 && side <= 65536 && out.size() < 3 && (next == end || *next == 'x'),
                ErrorKind::usage, "[prepare] \"", sides, "\" is no size; write 576, 480x640 or 96x96x96");
        out.push_back(side);
        more = next != end;
        at = next + 1;
    }
    return out;
}

PrepareResult prepare(const PrepareOptions& options) {
    require(!options.inputs.empty(), ErrorKind::usage, "[prepare] no input was named");
    require(!options.out.empty(), ErrorKind::usage, "[prepare] --out FILE.h5 is missing");
    require(options.channels_in == 1 || options.channels_in == 3, ErrorKind::usage, "[prepare] --channels-in ",
            options.channels_in, ": there are 1 (luminance) and 3 (colours)");
    require(!options.window || (*options.window)[1] > (*options.window)[0], ErrorKind::usage,
            "[prepare] --window LO,HI needs LO < HI");
    require(
        !options.window || options.normalise == Normalisation::ct, ErrorKind::usage,
        "[prepare] --window goes with --normalize ct, which maps it to 0 and 1; another normalisation was asked for");
    for (const double x : options.spacing)
        require(std::isfinite(x) && x > 0, ErrorKind::usage, "[prepare] --spacing needs positive numbers of mm");
    for (const std::string& input : options.inputs) {
        std::error_code error;
        require(!fs::equivalent(input, options.out, error), ErrorKind::usage, "[prepare] ", options.out,
                " is an input and the output");
    }
    return Preparation(options).run();
}

}  // namespace cover
