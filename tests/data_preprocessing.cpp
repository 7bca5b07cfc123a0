// What `apply` makes of an image is what `prepare` had stored; and a mask goes to the stored grid and back.
#include <png.h>

#include <cmath>
#include <functional>

#include "core/file.h"
#include "data/image.h"
#include "data/lay_back.h"
#include "data/preprocessing.h"
#include "tests/data_support.h"
#include "tests/support.h"

namespace cover {
namespace {

using test::TemporaryFolder;

// Smooth, with fine detail, odd sides.
void write_picture(const std::string& path, std::int64_t height, std::int64_t width) {
    std::vector<unsigned char> rgb;
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
            for (int c = 0; c < 3; ++c)
                rgb.push_back(
                    static_cast<unsigned char>(std::lround(127 + 60 * std::sin(0.2 * static_cast<double>(y) + c) +
                                                           60 * std::cos(0.7 * static_cast<double>(x)))));
    write_file(path, encode_png(width, height, rgb.data()));
}

// Turned and tilted in space, its first axis running left.
Affine oblique(const Point& spacing) {
    const double a = 0.3, b = -0.2;
    Affine turn, tilt;
    turn.m = {std::cos(a), -std::sin(a), 0, 0, std::sin(a), std::cos(a), 0, 0, 0, 0, 1, 0, 0, 0, 0, 1};
    tilt.m = {1, 0, 0, 0, 0, std::cos(b), -std::sin(b), 0, 0, std::sin(b), std::cos(b), 0, 0, 0, 0, 1};
    Affine out = turn * tilt * Affine::scale_shift({-spacing[0], spacing[1], spacing[2]}, {0, 0, 0});
    out(0, 3) = 41;
    out(1, 3) = -7;
    out(2, 3) = 3;
    return out;
}

// The file's axes exchanged: its first axis runs up, its second to the front, its third to the right.
Affine exchanged(const Affine& a) {
    Affine axes;
    axes.m = {0, 0, 1, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1};
    return a * axes;
}

template <class T>
void write_volume(const std::string& path, const std::array<std::int64_t, 3>& shape, const Affine& affine,
                  NiftiType type, const std::function<double(const Point&)>& value) {
    std::vector<T> values;
    for (std::int64_t k = 0; k < shape[2]; ++k)
        for (std::int64_t j = 0; j < shape[1]; ++j)
            for (std::int64_t i = 0; i < shape[0]; ++i)
                values.push_back(
                    static_cast<T>(value({static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)})));
    write_nifti(path, make_nifti_header(shape, affine), {.type = type}, values.data());
}

struct Overlap {
    double dice = 0;
    double shift = 0;  // between the centres of mass, in pixels
};

Overlap overlap_of(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b, const Grid& g) {
    REQUIRE(a.size() == b.size());
    double both = 0, sum[2] = {0, 0}, centre[2][3] = {};
    for (std::int64_t i = 0; i < g.pixels(); ++i) {
        const double at[3] = {static_cast<double>(i / (g.h * g.w)), static_cast<double>(i / g.w % g.h),
                              static_cast<double>(i % g.w)};
        const auto p = static_cast<std::size_t>(i);
        both += a[p] > 0 && b[p] > 0;
        for (int m = 0; m < 2; ++m) {
            if ((m == 0 ? a : b)[p] == 0) continue;
            sum[m] += 1;
            for (int axis = 0; axis < 3; ++axis) centre[m][axis] += at[axis];
        }
    }
    REQUIRE(sum[0] > 0);
    REQUIRE(sum[1] > 0);
    Overlap out{.dice = 2 * both / (sum[0] + sum[1])};
    for (int axis = 0; axis < 3; ++axis)
        out.shift = std::max(out.shift, std::abs(centre[0][axis] / sum[0] - centre[1][axis] / sum[1]));
    return out;
}

// prepare with labels, then the stored labels back onto the source's grid by the file's own /geometry.
std::vector<std::uint8_t> there_and_back(const PrepareOptions& options, const Grid& target, bool volume) {
    const auto result = prepare(options);
    REQUIRE(result.written == 1);
    const PatchFile file = PatchFile::open({options.out});
    const Grid stored = file.grid();
    std::vector<std::uint8_t> labels(static_cast<std::size_t>(stored.pixels()));
    file.read_labels(0, labels.data());
    const Affine to_stored = source_to_stored(file.geometry(0), "test");
    ThreadPool pool(2);
    return lay_back_labels(labels, stored, target, volume ? to_stored * reverse_axes() : to_stored, pool);
}

}  // namespace

TEST_CASE("preprocessing: a picture becomes what prepare stored of it, bit for bit") {
    const TemporaryFolder folder;
    const auto in = folder.path() + "/a.png", out = folder.path() + "/a.h5";
    write_picture(in, 51, 83);
    struct Case {
        std::vector<std::int64_t> size;
        bool keep_aspect;
        Normalisation normalise;
        H5Store store;
        int channels;
    };
    for (const Case& c : {Case{{48}, false, Normalisation::automatic, H5Store::uint8, 1},
                          Case{{40, 64}, true, Normalisation::minmax, H5Store::uint16, 1},
                          Case{{96}, false, Normalisation::percentile, H5Store::float16, 3},
                          Case{{32, 48}, false, Normalisation::zscore, H5Store::float32, 1},
                          Case{{32, 48}, true, Normalisation::ct, H5Store::uint8, 3}}) {
        PrepareOptions options;
        options.inputs = {in};
        options.out = out;
        options.size = c.size;
        options.keep_aspect = c.keep_aspect;
        options.normalise = c.normalise;
        options.store = c.store;
        options.channels_in = c.channels;
        if (c.normalise == Normalisation::ct) options.window = {40.0, 190.5};
        prepare(options);
        const PatchFile file = PatchFile::open({out});
        std::vector<float> stored(static_cast<std::size_t>(file.grid().pixels() * file.channels()));
        file.read_sample(0, stored.data());

        Sample sample = read_picture_sample(in, c.channels);
        CHECK(preprocess(sample, Preprocessing::parse(file.preprocessing(), 2, "w")) == 0);
        CHECK(sample.grid == file.grid());
        CHECK(sample.values == stored);
        CHECK(sample.geometry().affine == file.geometry(0).affine);
    }
}

TEST_CASE("preprocessing: a volume becomes what prepare stored of it, and is not cut") {
    const TemporaryFolder folder;
    const auto in = folder.path() + "/a.nii.gz", out = folder.path() + "/a.h5";
    write_volume<std::int16_t>(in, {21, 30, 17}, exchanged(oblique({1.5, 0.8, 1})), NiftiType::int16,
                               [](const Point& p) { return 100 * std::sin(0.4 * p[0]) + 7 * p[1] - 9 * p[2]; });
    PrepareOptions options;
    options.inputs = {in};
    options.out = out;
    options.spacing = {1.25, 1, 0.9};
    options.size = {32, 48, 48};  // larger: zeros around it
    prepare(options);
    const PatchFile file = PatchFile::open({out});
    std::vector<float> stored(static_cast<std::size_t>(file.grid().pixels()));
    file.read_sample(0, stored.data());
    VolumeInput input(in);
    Sample sample = input.next();
    preprocess(sample, Preprocessing::parse(file.preprocessing(), 3, "w"));
    CHECK(sample.grid == file.grid());
    CHECK(sample.values == stored);

    // Smaller sizes cut in `prepare`; here every voxel keeps its place.
    options.size = {8, 16, 16};
    prepare(options);
    VolumeInput again(in);
    Sample whole = again.next();
    preprocess(whole, Preprocessing::parse(PatchFile::open({out}).preprocessing(), 3, "w"));
    CHECK(whole.grid.d > 8);
    CHECK(whole.grid.h > 16);
    // The middle of the stored grid is that of the file, wherever the crop ended.
    const Point middle =
        whole.to_source({0.5 * static_cast<double>(whole.grid.d - 1), 0.5 * static_cast<double>(whole.grid.h - 1),
                         0.5 * static_cast<double>(whole.grid.w - 1)});
    CHECK(middle[0] == doctest::Approx(10));
    CHECK(middle[1] == doctest::Approx(14.5));
    CHECK(middle[2] == doctest::Approx(8));
}

TEST_CASE("preprocessing: metadata that prepare does not write are refused") {
    const auto refused = [](const char* json, int dims = 2) {
        const auto sentence = test::data_error([&] { Preprocessing::parse(json, dims, "w.safetensors"); });
        CHECK_MESSAGE(sentence.find("w.safetensors") != std::string::npos, json << ": " << sentence);
    };
    for (const char* json :
         {"[]", "no", "{\"size\":[96]}", "{\"size\":[0,96]}", "{\"size\":[1e9,96]}", "{\"size\":[96.5,96]}",
          "{\"size\":\"96\"}", "{\"size\":[96,\"96\"]}", "{\"normalize\":\"rnage\"}", "{\"normalize\":7}",
          "{\"normalize\":\"ct\"}", "{\"window\":[3,3]}", "{\"window\":[1]}", "{\"store\":\"int64\"}",
          "{\"keep_aspect\":1}", "{\"spacing\":[1,1,1]}"})
        refused(json);
    refused("{\"spacing\":[1,0,1]}", 3);
    refused("{\"spacing\":[1,1]}", 3);
    refused("{\"size\":[96,96]}", 3);
    refused("{\"keep_aspect\":true}", 3);
    CHECK(Preprocessing::parse("", 2, "w").options.size.empty());
    CHECK(Preprocessing::parse("{\"size\":[96,80],\"later\":[]}", 2, "w").options.size ==
          std::vector<std::int64_t>{96, 80});
}

TEST_CASE("round trip: the mask of a picture lies where it lay, whatever its size was in between") {
    const TemporaryFolder folder;
    const auto images = folder.path() + "/images", masks = folder.path() + "/masks";
    create_folder(images);
    create_folder(masks);
    constexpr std::int64_t height = 149, width = 213;
    write_picture(images + "/a.png", height, width);
    // An ellipse off the centre, without symmetry to the grid.
    std::vector<std::uint8_t> mask;
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x) {
            const double v = (static_cast<double>(y) - 53.3) / 31.7, u = (static_cast<double>(x) - 131.2) / 44.4;
            mask.push_back(u * u + v * v + 0.3 * u * v < 1);
        }
    png_image gray{};
    gray.version = PNG_IMAGE_VERSION;
    gray.width = width;
    gray.height = height;
    gray.format = PNG_FORMAT_GRAY;
    REQUIRE(png_image_write_to_file(&gray, (masks + "/a.png").c_str(), 0, mask.data(), 0, nullptr) == 1);
    const Grid grid{2, 1, height, width};
    for (const auto& [size, keep_aspect] :
         {std::pair{std::vector<std::int64_t>{192}, false}, std::pair{std::vector<std::int64_t>{192}, true},
          std::pair{std::vector<std::int64_t>{111, 301}, false}, std::pair{std::vector<std::int64_t>{97, 131}, true}}) {
        PrepareOptions options;
        options.inputs = {images};
        options.labels = masks;
        options.out = folder.path() + "/out.h5";
        options.size = size;
        options.keep_aspect = keep_aspect;
        const Overlap found = overlap_of(there_and_back(options, grid, false), mask, grid);
        CAPTURE(size[0]);
        CHECK(found.dice > 0.975);
        // A grid of half the sides has edges of two pixels: no mask comes back more exactly than that. That nothing is
        // shifted there either is seen with the ramps below.
        CHECK(found.shift < (size[0] < height ? 0.12 : 0.05));
    }
}

TEST_CASE("round trip: the mask of a volume lies where it lay: oblique, reversed, exchanged axes, uneven spacing") {
    const TemporaryFolder folder;
    const auto images = folder.path() + "/images", masks = folder.path() + "/masks";
    create_folder(images);
    create_folder(masks);
    const std::array<std::int64_t, 3> shape{41, 47, 35};
    const auto inside = [](const Point& p) {
        const double x = (p[0] - 21.4) / 13.3, y = (p[1] - 24.9) / 14.1, z = (p[2] - 15.2) / 11.7;
        return x * x + y * y + z * z + 0.4 * x * y < 1 ? 1.0 : 0.0;
    };
    std::vector<std::uint8_t> mask;
    for (std::int64_t k = 0; k < shape[2]; ++k)
        for (std::int64_t j = 0; j < shape[1]; ++j)
            for (std::int64_t i = 0; i < shape[0]; ++i)
                mask.push_back(
                    inside({static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)}) > 0 ? 1 : 0);
    const Grid grid{3, shape[2], shape[1], shape[0]};
    const Affine straight = Affine::scale_shift({-0.9, 1.2, 1.7}, {30, -20, 5});
    for (const Affine& affine :
         {straight, exchanged(straight), oblique({0.9, 1.2, 1.7}), exchanged(oblique({1.7, 1.2, 0.9}))})
        // Not resampled; to a finer grid; to one that is coarser along some axes.
        for (const double spacing : {0.0, 0.8, 1.1}) {
            write_volume<std::int16_t>(images + "/a.nii.gz", shape, affine, NiftiType::int16,
                                       [](const Point& p) { return p[0] + 2 * p[1] - p[2]; });
            write_volume<std::uint8_t>(masks + "/a.nii.gz", shape, affine, NiftiType::uint8, inside);
            PrepareOptions options;
            options.inputs = {images};
            options.labels = masks;
            options.out = folder.path() + "/out.h5";
            if (spacing > 0) options.spacing = {spacing};
            options.size = {96, 96, 96};
            const Overlap found = overlap_of(there_and_back(options, grid, true), mask, grid);
            CAPTURE(spacing);
            // On a finer grid every voxel finds itself again.
            CHECK(found.dice > (spacing > 1 ? 0.97 : 0.999999));
            CHECK(found.shift < (spacing > 1 ? 0.12 : 1e-9));
        }
}

// A ramp stays a ramp through any resizing but for a ripple of the sampled filter, so that its value tells the place.
TEST_CASE("round trip: a ramp tells that nothing is shifted by a hundredth of a pixel, on coarser grids too") {
    const TemporaryFolder folder;
    ThreadPool pool(2);
    const std::array<std::int64_t, 3> shape{41, 47, 35};
    const Affine straight = Affine::scale_shift({-0.9, 1.2, 1.7}, {30, -20, 5});
    for (const Affine& affine : {straight, exchanged(oblique({1.7, 1.2, 0.9}))})
        for (const double spacing : {1.0, 2.3})
            for (std::size_t axis = 0; axis < 3; ++axis) {
                write_volume<float>(folder.path() + "/a.nii", shape, affine, NiftiType::float32,
                                    [axis](const Point& p) { return p[axis]; });
                PrepareOptions options;
                options.inputs = {folder.path() + "/a.nii"};
                options.out = folder.path() + "/out.h5";
                options.store = H5Store::float32;
                options.spacing = {spacing};
                prepare(options);
                const PatchFile file = PatchFile::open({options.out});
                std::vector<float> stored(static_cast<std::size_t>(file.grid().pixels()));
                file.read_sample(0, stored.data());
                const Grid grid{3, shape[2], shape[1], shape[0]};
                const auto back = lay_back(stored.data(), file.grid(), 1, grid,
                                           source_to_stored(file.geometry(0), "test") * reverse_axes(), pool);
                double worst = 0, sum = 0, count = 0;
                for (std::int64_t i = 0; i < grid.pixels(); ++i) {
                    const std::int64_t at[3] = {i % grid.w, i / grid.w % grid.h, i / (grid.w * grid.h)};
                    // Near an end the filter's window is cut, and the ramp bent.
                    const auto side = static_cast<double>(shape[axis] - 1), place = static_cast<double>(at[axis]);
                    if (place < 7 || place > side - 7) continue;
                    const double off = static_cast<double>(back[static_cast<std::size_t>(i)]) * side - place;
                    worst = std::max(worst, std::abs(off));
                    sum += off;
                    ++count;
                }
                CAPTURE(spacing);
                CHECK(worst < 0.1);
                CHECK(std::abs(sum / count) < 0.01);
            }
}

}  // namespace cover
