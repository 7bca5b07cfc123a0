// `prepare` with volumes: orientation, spacing, labels, several volumes in a file, and the way back to the source.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "data/patches.h"
#include "data/prepare.h"
#include "data/prepare_inputs.h"
#include "tests/data_support.h"
#include "tests/nifti_support.h"
#include "tests/support.h"

using namespace cover;
using namespace cover::test;
namespace fs = std::filesystem;

namespace {

std::vector<float> sample(const PatchFile& file, std::int64_t i) {
    std::vector<float> out(static_cast<std::size_t>(file.grid().pixels() * file.channels()));
    file.read_sample(i, out.data());
    return out;
}

std::vector<std::uint8_t> labels(const PatchFile& file, std::int64_t i) {
    std::vector<std::uint8_t> out(static_cast<std::size_t>(file.grid().pixels()));
    file.read_labels(i, out.data());
    return out;
}

PrepareOptions options_for(const TemporaryFolder& folder) {
    PrepareOptions options;
    fs::create_directories(folder.path() + "/in");
    options.inputs = {folder.path() + "/in"};
    options.out = folder.path() + "/out.h5";
    return options;
}

// nx x ny x nz voxels whose value is value(world position), placed by the sform.
template <class Value>
MadeNifti made_volume(const std::array<std::int64_t, 3>& shape, const Affine& affine, Value value) {
    MadeNifti made;
    made.dim = {3, shape[0], shape[1], shape[2]};
    made.sform_code = 1;
    std::copy_n(affine.m.begin(), 12, made.srow.begin());
    for (std::int64_t k = 0; k < shape[2]; ++k)
        for (std::int64_t j = 0; j < shape[1]; ++j)
            for (std::int64_t i = 0; i < shape[0]; ++i)
                made.values.push_back(
                    value(affine({static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)})));
    return made;
}

// Axis a of the file runs along world axis axes[a], backwards where the bit is set; the box of voxels is the same for
// every choice: `shape` voxels of `step` mm from the world point `origin` on.
Affine affine_for(const std::array<int, 3>& axes, int flips, const std::array<std::int64_t, 3>& shape,
                  const Point& step, const Point& origin, std::array<std::int64_t, 3>& file_shape) {
    Affine out = Affine::scale_shift({0, 0, 0}, origin);
    for (std::size_t a = 0; a < 3; ++a) {
        const auto target = static_cast<std::size_t>(axes[a]);
        file_shape[a] = shape[target];
        const bool back = flips >> a & 1;
        out(axes[a], static_cast<int>(a)) = back ? -step[target] : step[target];
        if (back) out(axes[a], 3) += step[target] * static_cast<double>(shape[target] - 1);
    }
    return out;
}

// What a program does that lays a stored map back: every source voxel takes the stored voxel nearest to its place.
std::vector<std::uint8_t> laid_back(const std::vector<std::uint8_t>& stored, const Grid& grid,
                                    const SampleGeometry& geometry) {
    const Affine map = source_to_stored(geometry, "test");
    std::vector<std::uint8_t> out;
    for (std::int64_t k = 0; k < geometry.source_shape[2]; ++k)
        for (std::int64_t j = 0; j < geometry.source_shape[1]; ++j)
            for (std::int64_t i = 0; i < geometry.source_shape[0]; ++i) {
                const Point p = map({static_cast<double>(i), static_cast<double>(j), static_cast<double>(k)});
                const std::int64_t d = std::lround(p[0]), h = std::lround(p[1]), w = std::lround(p[2]);
                const bool inside = d >= 0 && h >= 0 && w >= 0 && d < grid.d && h < grid.h && w < grid.w;
                out.push_back(inside ? stored[static_cast<std::size_t>((d * grid.h + h) * grid.w + w)]
                                     : std::uint8_t{0});
            }
    return out;
}

double blob(const Point& p) { return 100 + 3 * p[0] - 2 * p[1] + 5 * p[2]; }

}  // namespace

TEST_CASE("volume: one head in all 48 orientations, both byte orders, both versions, comes out the same") {
    const TemporaryFolder folder;
    PrepareOptions options = options_for(folder);
    const std::array<std::int64_t, 3> shape = {6, 5, 4};
    std::array<int, 3> axes{0, 1, 2};
    int made_files = 0;
    do {
        for (int flips = 0; flips < 8; ++flips) {
            std::array<std::int64_t, 3> file_shape{};
            const Affine affine = affine_for(axes, flips, shape, {1, 1.5, 2}, {-3, 7, 11}, file_shape);
            MadeNifti made = made_volume(file_shape, affine, blob);
            made.big_endian = made_files & 1;
            made.version = made_files & 2 ? 2 : 1;
            const std::string name = folder.path() + "/in/" + std::to_string(100 + made_files++) + ".nii.gz";
            write_bytes(name, gzipped(nifti_bytes(made)));
        }
    } while (std::next_permutation(axes.begin(), axes.end()));
    const PrepareResult result = prepare(options);
    REQUIRE(result.written == 48);
    CHECK(result.notes.empty());
    CHECK(result.store == H5Store::uint16);
    const PatchFile file = PatchFile::open({options.out});
    CHECK(file.grid() == Grid{3, 6, 5, 4});
    CHECK(file.spacing() == std::vector<double>{1, 1.5, 2});
    CHECK(file.has_geometry());
    const std::vector<float> first = sample(file, 0);
    for (std::int64_t i = 0; i < 48; ++i) {
        CHECK((sample(file, i) == first));
        CHECK(file.geometry(i).affine == Affine::scale_shift({1, 1.5, 2}, {-3, 7, 11}));
    }
    // (D, H, W) = (R, A, S): the value that the formula has at the stored index' world position.
    const auto [least, most] = std::minmax({blob({-3, 13, 11}), blob({2, 7, 17})});
    for (std::int64_t d = 0; d < 6; ++d)
        for (std::int64_t h = 0; h < 5; ++h)
            for (std::int64_t w = 0; w < 4; ++w) {
                const Point p =
                    file.geometry(0).affine({static_cast<double>(d), static_cast<double>(h), static_cast<double>(w)});
                CHECK(first[static_cast<std::size_t>((d * 5 + h) * 4 + w)] ==
                      doctest::Approx((blob(p) - least) / (most - least)).epsilon(1e-4));
            }
}

TEST_CASE("volume: resampled to a spacing, every voxel shows what lies at its world position") {
    const TemporaryFolder folder;
    PrepareOptions options = options_for(folder);
    std::array<std::int64_t, 3> file_shape{};
    // Superior, left, anterior; 31 x 20 x 17 voxels of 0.9 x 1.3 x 2.1 mm.
    const Affine affine = affine_for({2, 0, 1}, 2, {31, 20, 17}, {0.9, 1.3, 2.1}, {5, -4, 3}, file_shape);
    write_bytes(folder.path() + "/in/a.nii", nifti_bytes(made_volume(file_shape, affine, blob)));
    options.spacing = {1.2, 1, 1.5};
    options.size = {30, 24, 20};
    options.store = H5Store::float32;
    prepare(options);
    const PatchFile file = PatchFile::open({options.out});
    for (std::size_t axis = 0; axis < 3; ++axis)
        CHECK(file.spacing()[axis] == doctest::Approx(options.spacing[axis]).epsilon(1e-6));
    const SampleGeometry geometry = file.geometry(0);
    for (std::size_t axis = 0; axis < 3; ++axis)
        CHECK(geometry.affine.spacing()[axis] == doctest::Approx(options.spacing[axis]).epsilon(1e-6));
    CHECK(geometry.source_shape == file_shape);
    const double least = blob({5, -4 + 19 * 1.3, 3}), most = blob({5 + 30 * 0.9, -4, 3 + 16 * 2.1});
    const std::vector<float> got = sample(file, 0);
    const Affine to_file = stored_to_source(geometry, "test");
    int inside = 0;
    for (std::int64_t d = 0; d < 30; ++d)
        for (std::int64_t h = 0; h < 24; ++h)
            for (std::int64_t w = 0; w < 20; ++w) {
                const Point index = {static_cast<double>(d), static_cast<double>(h), static_cast<double>(w)};
                const Point source = to_file(index);
                bool within = true, outside = false;
                for (std::size_t axis = 0; axis < 3; ++axis) {
                    within = within && source[axis] >= 2 && source[axis] <= static_cast<double>(file_shape[axis]) - 3;
                    outside = outside || source[axis] < -1 || source[axis] > static_cast<double>(file_shape[axis]);
                }
                const float value = got[static_cast<std::size_t>((d * 24 + h) * 20 + w)];
                if (outside) CHECK(value == 0);
                if (!within) continue;
                ++inside;
                // Where it shrinks, the filter's weights lie off the centre by up to a few hundredths of a voxel.
                CHECK(std::abs(value - (blob(geometry.affine(index)) - least) / (most - least)) < 1e-3);
            }
    CHECK(inside > 2000);
}

TEST_CASE("volume: labels go along by nearest neighbour, and lie back on the source without a shift") {
    const TemporaryFolder folder;
    PrepareOptions options = options_for(folder);
    fs::create_directories(folder.path() + "/labels");
    options.labels = folder.path() + "/labels";
    std::array<std::int64_t, 3> shape{};
    const Affine affine = affine_for({1, 2, 0}, 5, {24, 20, 22}, {1, 1, 1.2}, {0, 0, 0}, shape);
    const auto mask = [](const Point& p) {
        const double r = std::hypot(p[0] - 11.3, p[1] - 9.6, p[2] - 12.2);
        return r < 3 ? 2.0 : r < 6 ? 1.0 : 0.0;
    };
    write_bytes(folder.path() + "/in/a.nii.gz", gzipped(nifti_bytes(made_volume(shape, affine, blob))));
    // The label file has the axes in another order, as labelling programs like to write them.
    std::array<std::int64_t, 3> label_shape{};
    const Affine label_affine = affine_for({0, 1, 2}, 1, {24, 20, 22}, {1, 1, 1.2}, {0, 0, 0}, label_shape);
    MadeNifti made = made_volume(label_shape, label_affine, mask);
    made.type = NiftiType::int16;
    write_bytes(folder.path() + "/labels/a.nii", nifti_bytes(made));
    write_bytes(folder.path() + "/labels/._a.nii", "what macOS leaves behind");
    write_bytes(folder.path() + "/in/._a.nii", "what macOS leaves behind");

    const std::vector<double> truth_values = made_volume(shape, affine, mask).values;
    const std::vector<std::uint8_t> truth(truth_values.begin(), truth_values.end());
    for (const bool resampled : {false, true}) {
        options.size = {32, 18, 28};
        if (resampled) options.spacing = {0.8, 0.8, 0.8};
        if (resampled) options.size = {32, 28, 34};
        const PrepareResult result = prepare(options);
        REQUIRE(result.bad.empty());
        const PatchFile file = PatchFile::open({options.out});
        REQUIRE(file.label_kind() == LabelKind::maps);
        const std::vector<std::uint8_t> back = laid_back(labels(file, 0), file.grid(), file.geometry(0));
        REQUIRE(back.size() == truth.size());
        if (!resampled) {
            CHECK(back == truth);
            continue;
        }
        // Nearest neighbour twice: the edge may move, the centre may not.
        double overlap = 0, sum = 0;
        Point centre_back{}, centre_truth{};
        double count_back = 0, count_truth = 0;
        for (std::size_t v = 0; v < truth.size(); ++v) {
            const std::array<std::size_t, 3> at = {
                v % static_cast<std::size_t>(shape[0]),
                v / static_cast<std::size_t>(shape[0]) % static_cast<std::size_t>(shape[1]),
                v / static_cast<std::size_t>(shape[0] * shape[1])};
            overlap += 2.0 * (truth[v] > 0 && back[v] > 0);
            sum += (truth[v] > 0) + (back[v] > 0);
            count_truth += truth[v] > 0;
            count_back += back[v] > 0;
            for (std::size_t a = 0; a < 3; ++a) {
                centre_truth[a] += truth[v] > 0 ? static_cast<double>(at[a]) : 0.0;
                centre_back[a] += back[v] > 0 ? static_cast<double>(at[a]) : 0.0;
            }
        }
        CHECK(overlap / sum > 0.95);
        for (std::size_t a = 0; a < 3; ++a)
            CHECK(std::abs(centre_truth[a] / count_truth - centre_back[a] / count_back) < 0.1);
    }
    CHECK(std::count(truth.begin(), truth.end(), 2) > 50);

    options.spacing.clear();
    const auto refusal = [&](const MadeNifti& other) {
        write_bytes(folder.path() + "/labels/a.nii", nifti_bytes(other));
        return data_error([&] { prepare(options); });
    };
    MadeNifti moved = made;
    moved.srow[3] += 0.5;
    CHECK(refusal(moved).find("voxels beside the volume") != std::string::npos);
    MadeNifti smaller = made;
    smaller.dim[1] -= 1;
    CHECK(refusal(smaller).find("a label volume of 23 x 20 x 22") != std::string::npos);
    MadeNifti fractions = made;
    fractions.slope = 0.3;
    CHECK(refusal(fractions).find("classes are numbered") != std::string::npos);
}

TEST_CASE("volume: the volumes of a 4D file are samples of one subject, and NaN is named") {
    const TemporaryFolder folder;
    PrepareOptions options = options_for(folder);
    MadeNifti made;
    made.dim = {4, 4, 4, 4, 3};
    made.type = NiftiType::float64;
    for (int i = 0; i < 192; ++i) made.values.push_back(i % 64 == 5 ? std::nan("") : i * i % 97);
    std::fill_n(made.values.begin() + 64, 64, 7.0);  // the second volume does not vary
    write_bytes(folder.path() + "/in/series.nii", nifti_bytes(made));
    const PrepareResult result = prepare(options);
    CHECK(result.written == 2);
    REQUIRE(result.bad.size() == 1);
    CHECK(result.bad[0].sentence.find("series.nii: volume 1: all its values are the same") != std::string::npos);
    REQUIRE(result.notes.size() == 2);
    CHECK(result.notes[0].find("volume 0: 1 values were NaN") != std::string::npos);
    const PatchFile file = PatchFile::open({options.out});
    CHECK(file.source(0) == "series.nii:0");
    CHECK(file.source(1) == "series.nii:2");
    CHECK(file.subject(0) == "series");
    CHECK(file.subject(1) == "series");
    CHECK(sample(file, 0)[(1 * 4 + 1) * 4 + 0] == 0);  // voxel 5 is (1, 1, 0)
}

TEST_CASE("volume: repacking carries labels, geometry and names") {
    const TemporaryFolder folder;
    PrepareOptions options = options_for(folder);
    fs::create_directories(folder.path() + "/labels");
    std::array<std::int64_t, 3> shape{};
    const Affine affine = affine_for({2, 1, 0}, 3, {8, 9, 10}, {1, 1, 1}, {4, 5, 6}, shape);
    for (const char* name : {"a", "b"}) {
        write_bytes(folder.path() + "/in/" + name + ".nii", nifti_bytes(made_volume(shape, affine, blob)));
        write_bytes(folder.path() + "/labels/" + name + ".nii",
                    nifti_bytes(made_volume(shape, affine, [](const Point& p) { return p[0] > 7 ? 3.0 : 0.0; })));
    }
    options.labels = folder.path() + "/labels";
    prepare(options);
    const PatchFile first = PatchFile::open({options.out});

    PrepareOptions again;
    again.inputs = {options.out};
    again.out = folder.path() + "/again.h5";
    prepare(again);
    const PatchFile second = PatchFile::open({again.out});
    for (const std::int64_t i : {0, 1}) {
        CHECK(sample(second, i) == sample(first, i));
        CHECK(labels(second, i) == labels(first, i));
        CHECK(second.geometry(i).affine == first.geometry(i).affine);
        CHECK(second.geometry(i).source_affine == first.geometry(i).source_affine);
        CHECK(second.geometry(i).source_shape == shape);
        CHECK(second.subject(i) == first.subject(i));
    }
    // Cut out of it: the corner moves, the source stays.
    again.size = {6, 9, 8};
    prepare(again);
    const PatchFile cut = PatchFile::open({again.out});
    CHECK(cut.geometry(1).affine({0, 0, 0}) == first.geometry(1).affine({1, 0, 1}));
    CHECK(cut.geometry(1).source_shape == shape);
    const std::vector<std::uint8_t> map = labels(cut, 1);
    CHECK(std::count(map.begin(), map.end(), 3) == 3 * 9 * 8);
}

TEST_CASE("volume: what does not fit together is refused in a sentence") {
    const TemporaryFolder folder;
    PrepareOptions options = options_for(folder);
    const Affine affine;
    write_bytes(folder.path() + "/in/a.nii", nifti_bytes(made_volume({8, 8, 8}, affine, blob)));
    write_bytes(folder.path() + "/in/b.nii", nifti_bytes(made_volume({8, 8, 9}, affine, blob)));
    write_bytes(folder.path() + "/in/cut.nii.gz",
                gzipped(nifti_bytes(made_volume({8, 8, 8}, affine, blob))).substr(0, 200));
    MadeNifti pair = made_volume({8, 8, 8}, affine, blob);
    pair.single_file = false;
    write_bytes(folder.path() + "/in/pair.hdr", nifti_bytes(pair).substr(0, 352));
    const PrepareResult result = prepare(options);
    CHECK(result.written == 1);
    REQUIRE(result.bad.size() == 3);
    CHECK(result.bad[0].sentence.find("give --size") != std::string::npos);
    CHECK(result.bad[1].sentence.find("cut short") != std::string::npos);
    CHECK(result.bad[2].sentence.find(".hdr and .img pair") != std::string::npos);

    const auto usage = [&](auto change) {
        PrepareOptions wrong = options;
        wrong.inputs = {folder.path() + "/in/a.nii"};
        change(wrong);
        try {
            prepare(wrong);
        } catch (const Error& error) {
            CHECK(error.kind() == ErrorKind::usage);
            return std::string(error.what());
        }
        return std::string();
    };
    CHECK(usage([](PrepareOptions& o) { o.size = {4, 4}; }).find("is a volume") != std::string::npos);
    CHECK(usage([](PrepareOptions& o) { o.keep_aspect = true; }).find("is a volume") != std::string::npos);
    CHECK(usage([](PrepareOptions& o) { o.channels_in = 3; }).find("is a volume") != std::string::npos);
    CHECK(usage([](PrepareOptions& o) { o.spacing = {1, 1}; }).find("one or three") != std::string::npos);
    CHECK(usage([](PrepareOptions& o) {
              o.normalise = Normalisation::minmax;
              o.window = {0, 1};
          }).find("--window goes with") != std::string::npos);
    const std::string picture = std::string(COVER_SOURCE_DIR) + "/data/samples/heldout/00000001_000.png";
    CHECK(usage([&](PrepareOptions& o) { o.inputs = {picture}, o.spacing = {1}; }).find("--spacing is for volumes") !=
          std::string::npos);
    CHECK(usage([&](PrepareOptions& o) {
              o.inputs = {picture}, o.normalise = Normalisation::ct;
          }).find("--window LO,HI") != std::string::npos);
    CHECK(usage([&](PrepareOptions& o) {
              o.inputs = {picture};
              o.normalise = Normalisation::ct;
              o.window = {10, 200};
          }).empty());
    options.inputs = {folder.path() + "/in/a.nii"};
    options.normalise = Normalisation::range;
    CHECK(data_error([&] { prepare(options); }).find("use minmax") != std::string::npos);
    // Without an ending, the content says what it is; differing spacings are told.
    options.normalise = Normalisation::automatic;
    write_bytes(folder.path() + "/in/IM_0001",
                nifti_bytes(made_volume({8, 8, 8}, Affine::scale_shift({2, 1, 1}, {0, 0, 0}), blob)));
    options.inputs.push_back(folder.path() + "/in/IM_0001");
    const PrepareResult mixed = prepare(options);
    CHECK(mixed.written == 2);
    REQUIRE(mixed.notes.size() == 1);
    CHECK(mixed.notes[0].find("differ in spacing") != std::string::npos);
}

TEST_CASE("volume: labels of a stranger's file are read, or refused with the reason") {
    const TemporaryFolder folder;
    const std::string path = folder.path() + "/a.h5";
    const std::vector<unsigned char> images(3 * 4 * 4, 9);
    const auto kind_with = [&](const std::vector<std::int64_t>& shape, H5Store store, const void* data) {
        H5Writer writer(path);
        writer.dataset("/images", H5Store::uint8, {3, 1, 4, 4}, images.data());
        writer.dataset("/labels", store, shape, data);
        writer.commit();
        return PatchFile::open({path});
    };
    const std::vector<std::int64_t> wide = {0, 7, 300};
    PatchFile file = kind_with({3}, H5Store::int64, wide.data());
    REQUIRE(file.label_kind() == LabelKind::classes);
    CHECK(file.class_label(1) == 7);
    CHECK(data_error([&] { file.class_label(2); }).find("sample 2 has the label 300") != std::string::npos);
    CHECK_FALSE(file.has_geometry());
    CHECK(data_error([&] { file.geometry(0); }).find("has no /geometry") != std::string::npos);
    std::vector<std::int16_t> maps(48);
    for (std::size_t i = 0; i < maps.size(); ++i) maps[i] = static_cast<std::int16_t>(i);
    file = kind_with({3, 1, 4, 4}, H5Store::int16, maps.data());
    REQUIRE(file.label_kind() == LabelKind::maps);
    CHECK(labels(file, 2)[15] == 47);
    const std::vector<float> floats(48, 1);
    CHECK(data_error([&] {
              kind_with({3, 4, 4}, H5Store::float32, floats.data()).label_kind();
          }).find("not integers") != std::string::npos);
    CHECK(data_error([&] {
              kind_with({3, 2, 8}, H5Store::int16, maps.data()).label_kind();
          }).find("another size") != std::string::npos);
    CHECK(data_error([&] {
              kind_with({2, 4}, H5Store::int16, maps.data()).label_kind();
          }).find("another number of samples") != std::string::npos);
    // The images can be used all the same: prepare says that it left the labels out.
    PrepareOptions options;
    options.inputs = {path};
    options.out = folder.path() + "/out.h5";
    std::vector<unsigned char> ramp(48);
    for (std::size_t i = 0; i < 48; ++i) ramp[i] = static_cast<unsigned char>(i);
    {
        H5Writer writer(path);
        writer.dataset("/images", H5Store::uint8, {3, 1, 4, 4}, ramp.data());
        writer.dataset("/labels", H5Store::int16, {2, 4}, maps.data());
        writer.commit();
    }
    const PrepareResult result = prepare(options);
    CHECK(result.written == 3);
    REQUIRE(result.notes.size() == 1);
    CHECK(result.notes[0].find("they were left out") != std::string::npos);
}
