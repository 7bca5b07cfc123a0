// data/prepare.h, resample.h and quantise.h.
#include <cmath>
#include <filesystem>
#include <numeric>
#include <set>

#include "data/image.h"
#include "data/patches.h"
#include "data/prepare.h"
#include "data/prepare_inputs.h"
#include "data/quantise.h"
#include "data/resample.h"
#include "tests/data_support.h"
#include "tests/support.h"

using namespace cover;
using namespace cover::test;
namespace fs = std::filesystem;

namespace {

// A gray picture of height x width whose pixel (y, x) is value(y, x).
template <class Value>
void write_picture(const std::string& path, std::int64_t height, std::int64_t width, Value value) {
    std::vector<unsigned char> rgb;
    for (std::int64_t y = 0; y < height; ++y)
        for (std::int64_t x = 0; x < width; ++x)
            for (int c = 0; c < 3; ++c) rgb.push_back(static_cast<unsigned char>(value(y, x)));
    fs::create_directories(fs::path(path).parent_path());
    write_bytes(path, encode_png(width, height, rgb.data()));
}

std::int64_t slope(std::int64_t y, std::int64_t x) { return 20 + 3 * y + 2 * x; }

std::vector<float> sample(const PatchFile& file, std::int64_t i) {
    std::vector<float> out(static_cast<std::size_t>(file.grid().pixels() * file.channels()));
    file.read_sample(i, out.data());
    return out;
}

PrepareOptions options_for(const TemporaryFolder& folder, std::vector<std::int64_t> size = {16}) {
    PrepareOptions options;
    options.inputs = {folder.path() + "/in"};
    options.out = folder.path() + "/out.h5";
    options.size = std::move(size);
    return options;
}

}  // namespace

TEST_CASE("resample: a constant stays constant, a ramp keeps its mean, an axis of equal size its values") {
    for (const auto& [from, to] : std::vector<std::pair<Grid, Grid>>{{{2, 1, 31, 47}, {2, 1, 13, 16}},
                                                                     {{2, 1, 10, 9}, {2, 1, 25, 9}},
                                                                     {{3, 8, 9, 10}, {3, 5, 12, 10}},
                                                                     {{2, 1, 64, 64}, {2, 1, 1, 3}}}) {
        std::vector<float> constant(static_cast<std::size_t>(from.pixels()), 0.37f);
        for (const float v : resample(constant, from, to, 1)) CHECK(v == doctest::Approx(0.37f).epsilon(1e-6));
        std::vector<float> ramp(constant.size());
        for (std::size_t i = 0; i < ramp.size(); ++i)
            ramp[i] = static_cast<float>(i % static_cast<std::size_t>(from.w)) +
                      0.5f * static_cast<float>(i / static_cast<std::size_t>(from.w));
        const std::vector<float> out = resample(ramp, from, to, 1);
        const auto mean = [](const std::vector<float>& v) {
            return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
        };
        CHECK(mean(out) == doctest::Approx(mean(ramp)).epsilon(1e-5));
        CHECK((resample(ramp, from, from, 1) == ramp));
    }
    // Inside, a ramp along x is sampled at the pixel centres.
    std::vector<float> ramp(64);
    std::iota(ramp.begin(), ramp.end(), 0.0f);
    const std::vector<float> out = resample(ramp, {2, 1, 1, 64}, {2, 1, 1, 16}, 1);
    for (std::size_t i = 1; i < 15; ++i) CHECK(out[i] == doctest::Approx(4.0 * (static_cast<double>(i) + 0.5) - 0.5));
}

TEST_CASE("resample: a pattern too fine for the target becomes gray, not moire") {
    std::vector<float> stripes(1024);
    for (std::size_t i = 0; i < stripes.size(); ++i) stripes[i] = static_cast<float>(i % 2);
    for (const float v : resample(stripes, {2, 1, 1, 1024}, {2, 1, 1, 100}, 1))
        CHECK(v == doctest::Approx(0.5).epsilon(0.06));
}

TEST_CASE("resample: labels keep their values and channels stay apart") {
    const std::vector<std::uint8_t> labels = {0, 1, 2, 3};
    CHECK(resample_nearest(labels, {2, 1, 2, 2}, {2, 1, 4, 2}) == std::vector<std::uint8_t>{0, 1, 0, 1, 2, 3, 2, 3});
    CHECK(resample_nearest({0, 1, 2, 3, 4, 5}, {2, 1, 1, 6}, {2, 1, 1, 2}) == std::vector<std::uint8_t>{1, 4});
    const std::vector<float> two = resample({1, 10, 1, 10, 1, 10, 1, 10}, {2, 1, 2, 2}, {2, 1, 3, 1}, 2);
    for (std::size_t i = 0; i < 6; ++i) CHECK(two[i] == doctest::Approx(i % 2 ? 10 : 1));
}

TEST_CASE("quantise: half precision rounds to nearest even") {
    CHECK(half_bits(0.0f) == 0);
    CHECK(half_bits(1.0f) == 0x3c00);
    CHECK(half_bits(-2.0f) == 0xc000);
    CHECK(half_bits(65504.0f) == 0x7bff);
    CHECK(half_bits(65520.0f) == 0x7c00);
    CHECK(half_bits(0x1p-24f) == 1);
    CHECK(half_bits(0x1p-25f) == 0);
    CHECK(half_bits(0x1.8p-24f) == 2);
    CHECK(half_bits(1.0f + 0x1p-11f) == 0x3c00);
    CHECK(half_bits(1.0f + 0x1.8p-10f) == 0x3c02);
    // Every finite half comes back.
    const H5Type type{H5Kind::floating, 2, true, false};
    int wrong = 0;
    for (unsigned bits = 0; bits < 65536; ++bits) {
        if ((bits & 0x7c00) == 0x7c00) continue;
        const unsigned char bytes[2] = {static_cast<unsigned char>(bits), static_cast<unsigned char>(bits >> 8)};
        float value = 0;
        to_floats(type, bytes, 1, 1, 0, &value);
        wrong += half_bits(value) != (bits == 0x8000 ? 0 : bits);  // stored * 1 + 0 has no negative zero
    }
    CHECK(wrong == 0);
}

TEST_CASE("quantise: every normalisation against its definition") {
    std::vector<float> ramp(201);
    for (std::size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<float>(i) - 50;  // -50 to 150
    const auto after = [&](Normalisation method, std::size_t i) {
        std::vector<float> values = ramp;
        CHECK(normalise(values, method, {-100, 300}, {0, 50}).refusal.empty());
        return values[i];
    };
    CHECK(after(Normalisation::range, 0) == doctest::Approx(50.0 / 400));
    CHECK(after(Normalisation::minmax, 0) == 0);
    CHECK(after(Normalisation::minmax, 100) == doctest::Approx(0.5));
    CHECK(after(Normalisation::minmax, 200) == 1);
    CHECK(after(Normalisation::percentile, 1) == 0);
    CHECK(after(Normalisation::percentile, 100) == doctest::Approx(0.5));
    CHECK(after(Normalisation::percentile, 51) == doctest::Approx(50.0 / 198));
    CHECK(after(Normalisation::ct, 49) == 0);
    CHECK(after(Normalisation::ct, 75) == doctest::Approx(0.5));
    CHECK(after(Normalisation::ct, 150) == 1);
    const double deviation = std::sqrt((201.0 * 201 - 1) / 12);
    CHECK(after(Normalisation::zscore, 100) == doctest::Approx(0.5));
    CHECK(after(Normalisation::zscore, 150) == doctest::Approx(0.5 + 50 / (6 * deviation)));

    std::vector<float> holes = {1, NAN, 3, INFINITY, -INFINITY};
    const Normalised result = normalise(holes, Normalisation::minmax, {0, 1}, {0, 1});
    CHECK(result.non_finite == 3);
    CHECK(holes == std::vector<float>{0, 0, 1, 0, 0});
    std::vector<float> flat(4, 2.0f), none(3, NAN);
    CHECK_FALSE(normalise(flat, Normalisation::range, {0, 4}, {0, 1}).refusal.empty());
    CHECK_FALSE(normalise(none, Normalisation::minmax, {0, 4}, {0, 1}).refusal.empty());
}

TEST_CASE("prepare: every store type holds the same picture") {
    const TemporaryFolder folder;
    write_picture(folder.path() + "/in/a.png", 16, 16, slope);
    for (const auto& [store, tolerance] : std::vector<std::pair<H5Store, double>>{
             {H5Store::uint8, 1e-6}, {H5Store::uint16, 1e-5}, {H5Store::float16, 3e-4}, {H5Store::float32, 1e-7}}) {
        PrepareOptions options = options_for(folder);
        options.store = store;
        const PrepareResult result = prepare(options);
        CHECK(result.written == 1);
        CHECK(result.store == store);
        const PatchFile file = PatchFile::open({options.out});
        CHECK(file.type(0).name() == name_of(store));
        const std::vector<float> got = sample(file, 0);
        for (std::int64_t i = 0; i < 256; ++i)
            CHECK(std::abs(got[static_cast<std::size_t>(i)] - static_cast<double>(slope(i / 16, i % 16)) / 255) <=
                  tolerance);
    }
}

TEST_CASE("prepare: sorted, reproducible byte for byte, and described") {
    const TemporaryFolder folder;
    for (const char* name : {"c", "a", "b"})
        write_picture(folder.path() + "/in/deep/" + name + ".png", 30, 40,
                      [&](std::int64_t y, std::int64_t x) { return slope(y, x) + name[0] - 'a'; });
    PrepareOptions options = options_for(folder, {12, 20});
    std::int64_t calls = 0;
    options.progress = [&](std::int64_t done, std::int64_t total) {
        CHECK(done == ++calls);
        CHECK(total == 3);
    };
    CHECK(prepare(options).written == 3);
    CHECK(calls == 3);
    options.progress = nullptr;
    const std::string first = bytes_of(options.out);
    options.inputs = {folder.path() + "/in/deep/b.png", folder.path() + "/in"};  // b once
    options.out = folder.path() + "/again.h5";
    CHECK(prepare(options).written == 3);
    const H5File file = H5File::open(folder.path() + "/out.h5");
    CHECK(file.number("/", "cover_schema") == 1);
    CHECK(file.string("/images", "axes") == "NCHW");
    CHECK(file.string("/", "preprocessing").find("\"normalize\":\"range\"") != std::string::npos);
    CHECK(file.read_strings(file.dataset("/subject")) == std::vector<std::string>{"a", "b", "c"});
    CHECK(file.read_strings(file.dataset("/source"))[0] == "deep/a.png");
    CHECK(file.dataset("/images").shape == std::vector<std::int64_t>{3, 1, 12, 20});
    CHECK(file.dataset("/images").layout == H5Layout::contiguous);
    options.inputs = {folder.path() + "/in"};
    options.out = folder.path() + "/again.h5";
    prepare(options);
    CHECK((bytes_of(options.out) == first));
    // Stored (h, w) -> source (y, x) by pixel centres.
    const std::vector<double> affine = file.read_doubles("/geometry/affine");
    CHECK(affine[5] == doctest::Approx(2.5));
    CHECK(affine[7] == doctest::Approx(0.75));
    CHECK(affine[10] == doctest::Approx(2.0));
    CHECK(affine[11] == doctest::Approx(0.5));
    CHECK(file.read_doubles("/geometry/source_shape") == std::vector<double>{1, 30, 40, 1, 30, 40, 1, 30, 40});
    const std::vector<float> got = sample(PatchFile::open({folder.path() + "/out.h5"}), 0);
    for (std::int64_t y = 1; y < 11; ++y)
        for (std::int64_t x = 1; x < 19; ++x) {
            const double expected =
                20 + 3 * (2.5 * static_cast<double>(y) + 0.75) + 2 * (2.0 * static_cast<double>(x) + 0.5);
            CHECK(std::abs(got[static_cast<std::size_t>(y * 20 + x)] * 255 - expected) <= 1.0);
        }
}

TEST_CASE("prepare: bad inputs are named, counted and skipped; strict stops; none good is an error") {
    const TemporaryFolder folder;
    const std::string in = folder.path() + "/in/";
    write_picture(in + "good.png", 20, 20, slope);
    write_picture(in + "flat.png", 20, 20, [](std::int64_t, std::int64_t) { return 7; });
    write_bytes(in + "cut.png", bytes_of(in + "good.png").substr(0, 60));
    write_bytes(in + "empty.jpg", "");
    write_bytes(in + "garbage.h5", std::string(3000, 'z'));
    write_bytes(in + "volume.nii.gz", "x");
    write_bytes(in + "notes.txt", "not an input");
    PrepareOptions options = options_for(folder);
    options.inputs.push_back(folder.path() + "/missing.png");
    const PrepareResult result = prepare(options);
    CHECK(result.written == 1);
    REQUIRE(result.bad.size() == 6);
    for (const BadInput& bad : result.bad) {
        CAPTURE(bad.sentence);
        CHECK(bad.sentence.find(bad.path) != std::string::npos);
    }
    CHECK(result.bad[5].sentence.find("NIfTI") != std::string::npos);
    CHECK(PatchFile::open({options.out}).subject(0) == "good");

    options.strict = true;
    CHECK(data_error([&] { prepare(options); }).find("missing.png") != std::string::npos);
    options.inputs.pop_back();
    CHECK(data_error([&] { prepare(options); }).find("cut.png") != std::string::npos);
    options.strict = false;
    options.inputs = {in + "flat.png"};
    options.out = folder.path() + "/none.h5";
    CHECK(data_error([&] { prepare(options); }).find("nothing could be used") != std::string::npos);
    CHECK_FALSE(fs::exists(options.out));
    CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 2);  // in and out.h5: nothing is left aside
}

TEST_CASE("prepare: index.csv, splits, subjects and labels") {
    const TemporaryFolder folder;
    const std::string in = folder.path() + "/in/";
    for (const char* name : {"one", "two", "three"}) {
        write_picture(in + "images/" + name + ".png", 20, 20, slope);
        write_picture(in + "masks/" + name + ".png", 20, 20,
                      [](std::int64_t y, std::int64_t x) { return x >= 10 && y >= 5 ? 255 : 0; });
    }
    write_bytes(in + "index.csv",
                "id,patient,split\r\none,\"P, 1\",train\r\ntwo,P2,test\nthree,P1,train\nfour,P4,test\n");
    PrepareOptions options = options_for(folder, {10});
    CHECK(prepare(options).written == 3);
    options.split = "train";
    CHECK(prepare(options).written == 2);
    PatchFile file = PatchFile::open({options.out});
    CHECK(file.subject(0) == "P, 1");
    CHECK(file.source(1) == "images/three.png");
    options.split = "test";
    const PrepareResult result = prepare(options);
    CHECK(result.written == 1);
    REQUIRE(result.bad.size() == 1);
    CHECK(result.bad[0].sentence.find("four") != std::string::npos);
    options.split = "validation";
    CHECK(data_error([&] { prepare(options); }).find("there are: test, train") != std::string::npos);

    options.split = "train";
    options.labels = in + "masks";
    CHECK(data_error([&] { prepare(options); }).find("colours") != std::string::npos);
}

TEST_CASE("prepare: gray label maps go along, nearest, with 255 as class 1") {
    const TemporaryFolder folder;
    const std::string in = folder.path() + "/in/";
    write_picture(in + "a.png", 4, 4, slope);
    // The smallest gray PNG that zlib's stored blocks give: made by hand, 4 x 4, right half 255.
    const std::string gray = [] {
        const auto chunk = [](const std::string& type, const std::string& data) {
            std::string body = type + data, out;
            std::uint32_t crc = 0xffffffffu;
            for (const char c : body) {
                crc ^= static_cast<unsigned char>(c);
                for (int k = 0; k < 8; ++k) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
            }
            crc ^= 0xffffffffu;
            for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(data.size() >> shift);
            out += body;
            for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(crc >> shift);
            return out;
        };
        std::string rows;
        for (int y = 0; y < 4; ++y) rows += std::string("\0\0\0\xff\xff", 5);
        std::uint32_t a = 1, b = 0;
        for (const char c : rows) {
            a = (a + static_cast<unsigned char>(c)) % 65521;
            b = (b + a) % 65521;
        }
        std::string zlib = std::string("\x78\x01\x01\x14\x00\xeb\xff", 7) + rows;
        for (const std::uint32_t half : {b, a}) {
            zlib += static_cast<char>(half >> 8);
            zlib += static_cast<char>(half);
        }
        return std::string("\x89PNG\r\n\x1a\n", 8) + chunk("IHDR", std::string("\0\0\0\4\0\0\0\4\x08\0\0\0\0", 13)) +
               chunk("IDAT", zlib) + chunk("IEND", "");
    }();
    fs::create_directories(folder.path() + "/labels");
    write_bytes(folder.path() + "/labels/a.png", gray);
    PrepareOptions options = options_for(folder, {8});
    options.labels = folder.path() + "/labels";
    CHECK(prepare(options).written == 1);
    const H5File file = H5File::open(options.out);
    const std::vector<double> labels = file.read_doubles("/labels");
    CHECK(file.dataset("/labels").shape == std::vector<std::int64_t>{1, 8, 8});
    for (std::size_t i = 0; i < 64; ++i) CHECK(labels[i] == (i % 8 >= 4 ? 1 : 0));
    write_picture(in + "b.png", 4, 4, slope);
    const PrepareResult result = prepare(options);
    CHECK(result.written == 1);
    CHECK(result.bad.size() == 1);
}

TEST_CASE("prepare: keep-aspect pads with zeros, colours stay three channels") {
    const TemporaryFolder folder;
    write_picture(folder.path() + "/in/wide.png", 10, 40, [](std::int64_t, std::int64_t x) { return 100 + x; });
    PrepareOptions options = options_for(folder, {20});
    options.keep_aspect = true;
    options.channels_in = 3;
    const PrepareResult result = prepare(options);
    CHECK(result.channels == 3);
    const PatchFile file = PatchFile::open({options.out});
    CHECK(file.channels() == 3);
    const std::vector<float> got = sample(file, 0);
    for (std::size_t y = 0; y < 20; ++y)
        for (std::size_t x = 0; x < 20; ++x) CHECK((got[(y * 20 + x) * 3 + 1] > 0.3f) == (y >= 7 && y < 12));
    const std::vector<double> affine = H5File::open(options.out).read_doubles("/geometry/affine");
    CHECK(affine[5] * 7 + affine[7] == doctest::Approx(0.5));
}

TEST_CASE("prepare: repacks a stranger's HDF5 file in 2D and 3D without changing a value") {
    const TemporaryFolder folder;
    fs::create_directories(folder.path() + "/in");
    std::vector<std::uint16_t> images(6 * 8 * 8 * 4);
    for (std::size_t i = 0; i < images.size(); ++i) images[i] = static_cast<std::uint16_t>(i * 41);
    ForeignDataset d;
    d.path = "/somewhere/pictures";
    d.shape = {6, 8, 8, 4};
    d.file_type = H5T_STD_U16BE;
    d.memory_type = H5T_NATIVE_USHORT;
    d.data = images.data();
    d.chunk = {4, 3, 8, 2};
    d.deflate = d.shuffle = true;
    H5dont_atexit();
    for (const std::string axes : {"NHWC", "NDHW"}) {
        d.axes = axes;
        const hid_t file = H5Fcreate((folder.path() + "/in/a.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        H5Gclose(H5Gcreate2(file, "/somewhere", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        add_dataset(file, d);
        H5Fclose(file);
        PrepareOptions options = options_for(folder, {});
        options.store = H5Store::uint16;
        CHECK(prepare(options).written == 6);
        const PatchFile out = PatchFile::open({options.out});
        CHECK(out.spatial_dims() == (axes == "NHWC" ? 2 : 3));
        CHECK(out.channels() == (axes == "NHWC" ? 4 : 1));
        for (std::int64_t i = 0; i < 6; ++i) {
            const std::vector<float> got = sample(out, i);
            for (std::size_t k = 0; k < 256; ++k)
                REQUIRE(std::lround(got[k] * 65535.0) == images[static_cast<std::size_t>(i) * 256 + k]);
        }
        if (axes == "NHWC") continue;
        options.size = {8, 6, 8};  // depth kept, height cut at both sides, width padded by two
        prepare(options);
        const PatchFile cut = PatchFile::open({options.out});
        CHECK(cut.grid() == Grid{3, 8, 6, 8});
        const std::vector<float> got = sample(cut, 2);
        CHECK(got[0] == 0);
        CHECK(std::lround(got[2] * 65535.0) == images[2 * 256 + 4]);
        options.size.clear();
        options.spacing = {2};
        prepare(options);
        CHECK(PatchFile::open({options.out}).grid() == Grid{3, 4, 4, 2});
        CHECK(PatchFile::open({options.out}).spacing() == std::vector<double>{2, 2, 2});
    }
}

TEST_CASE("prepare: options that make no sense are usage errors") {
    CHECK(parse_sides("576") == std::vector<std::int64_t>{576});
    CHECK(parse_sides("96x64x32") == std::vector<std::int64_t>{96, 64, 32});
    for (const char* wrong : {"", "x", "96x", "0", "-3", "4x4x4x4", "12 3", "1e3"})
        CHECK_THROWS_AS(parse_sides(wrong), Error);
    CHECK(parse_normalisation("ct") == Normalisation::ct);
    CHECK_THROWS_AS(parse_normalisation("automatic"), Error);
    CHECK(parse_store("float16") == H5Store::float16);
    CHECK_THROWS_AS(parse_store("float64"), Error);
    const TemporaryFolder folder;
    write_picture(folder.path() + "/in/a.png", 16, 16, slope);
    PrepareOptions options = options_for(folder, {4, 4, 4});
    CHECK_THROWS_AS(prepare(options), Error);
    CHECK_FALSE(fs::exists(options.out));
}

TEST_CASE("prepare: the sample images are all good, and no patient is in both folders") {
    const TemporaryFolder folder;
    std::set<std::string> subjects[2];
    for (const int heldout : {0, 1}) {
        PrepareOptions options;
        options.inputs = {std::string(COVER_SOURCE_DIR) + "/data/samples/" + (heldout ? "heldout" : "train")};
        options.out = folder.path() + "/" + std::to_string(heldout) + ".h5";
        options.size = {32};
        const PrepareResult result = prepare(options);
        CHECK(result.bad.empty());
        CHECK(result.written == (heldout ? 7 : 24));
        const PatchFile file = PatchFile::open({options.out});
        for (std::int64_t i = 0; i < file.sample_count(); ++i) subjects[heldout].insert(file.subject(i));
    }
    CHECK(subjects[0].size() == 19);
    CHECK(subjects[1].size() == 7);
    for (const std::string& s : subjects[1]) CHECK(subjects[0].count(s) == 0);
}
