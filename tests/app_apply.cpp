// `cover apply`: results on the input's own grid, as the program writes them.
#include <cmath>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "app/applied_network.h"
#include "core/file.h"
#include "core/hash.h"
#include "data/image.h"
#include "tests/run_program.h"

namespace cover {
namespace {

using test::run_program;
using test::TemporaryFolder;

constexpr const char* prepared_as =
    "{\"channels\":1,\"keep_aspect\":false,\"normalize\":\"range\",\"size\":[64,48],\"store\":\"uint8\"}";

// Writes W.safetensors and returns the network in it.
Model write_network(const std::string& path, int dims, std::int64_t patch, const std::string& preprocessing,
                    bool backbone = false) {
    const ModelConfig config = test::small_network(dims);
    Model model = test::small_model(config);
    write_safetensors(path, model.to_file(backbone), test::small_metadata(config, patch, preprocessing));
    return model;
}

std::vector<unsigned char> write_picture(const std::string& path, std::int64_t height, std::int64_t width,
                                         std::uint32_t seed) {
    const Tensor noise = test::random_tensor({height, width}, DType::float32, seed, 0, 255);
    std::vector<unsigned char> rgb;
    for (std::int64_t i = 0; i < height * width; ++i)
        rgb.insert(rgb.end(), 3, static_cast<unsigned char>(noise.data<float>()[i]));
    write_file(path, encode_png(width, height, rgb.data()));
    return rgb;
}

struct Npy {
    std::string header;
    std::vector<float> values;
};
Npy read_npy(const std::string& path) {
    const auto bytes = read_file(path);
    REQUIRE(bytes.size() >= 128);
    Npy out{bytes.substr(10, 118), std::vector<float>((bytes.size() - 128) / 4)};
    std::memcpy(out.values.data(), bytes.data() + 128, out.values.size() * 4);
    return out;
}

Tensor tensor_of(const std::vector<unsigned char>& rgb, std::int64_t height, std::int64_t width) {
    Tensor out = Tensor::empty({1, 1, height, width, 1});
    for (std::int64_t i = 0; i < height * width; ++i)
        out.data<float>()[i] = static_cast<float>(rgb[static_cast<std::size_t>(3 * i)] * (1.0 / 255.0));
    return out;
}

}  // namespace

TEST_CASE("apply: features and displacement of pictures are those of the network, on the pictures' grid") {
    const TemporaryFolder folder;
    const Model model = write_network(folder.path() + "/w.safetensors", 2, 32, prepared_as);
    const auto a = write_picture(folder.path() + "/a.png", 64, 48, 1),
               b = write_picture(folder.path() + "/b.png", 64, 48, 2);
    write_picture(folder.path() + "/odd.png", 77, 101, 3);

    // A picture of the network's own size: the very bits.
    const auto done = run_program(
        folder, "apply --weights %d/w.safetensors --what features %d/a.png %d/odd.png --out %d/f --tile whole --json");
    REQUIRE_MESSAGE(done.code == 0, done.err);
    Graph graph(test::cpu_stream(), 2, Graph::Retention::nothing);
    const Tensor expected = graph.value(model.features(graph, graph.constant(tensor_of(a, 64, 48))).back());
    const Npy features = read_npy(folder.path() + "/f/a.features.npy");
    CHECK(features.header.find("(64, 48, 8)") != std::string::npos);
    REQUIRE(static_cast<std::int64_t>(features.values.size()) == expected.count());
    CHECK(std::memcmp(features.values.data(), expected.data<float>(), features.values.size() * 4) == 0);
    CHECK(read_npy(folder.path() + "/f/odd.features.npy").header.find("(77, 101, 8)") != std::string::npos);
    const auto json = nlohmann::json::parse(done.out);
    CHECK(json["what"] == "features");
    REQUIRE(json["results"].size() == 2);
    CHECK(json["results"][0]["output"] == folder.path() + "/f/a.features.npy");
    CHECK(json["results"][1]["shape"] == nlohmann::json({77, 101, 8}));
    CHECK(json["skipped"].empty());

    const auto pair = run_program(
        folder, "apply --weights %d/w.safetensors --what displacement %d/b.png %d/a.png --out %d/d --tile whole");
    REQUIRE_MESSAGE(pair.code == 0, pair.err);
    Tensor views = Tensor::empty({2, 1, 64, 48, 1});
    std::memcpy(views.data<float>(), tensor_of(b, 64, 48).data<float>(), 64 * 48 * 4);
    std::memcpy(views.data<float>() + 64 * 48, tensor_of(a, 64, 48).data<float>(), 64 * 48 * 4);
    const Tensor field = model.predict(graph, graph.constant(views)).field.value;
    const Npy displacement = read_npy(folder.path() + "/d/b_to_a.displacement.npy");
    CHECK(displacement.header.find("(64, 48, 2)") != std::string::npos);
    // p + u - p loses a rounding of the place.
    CHECK(test::difference(ConstView(displacement.values.data(), static_cast<std::int64_t>(displacement.values.size())),
                           field.const_view(), 1e-5, 1e-5)
              .empty());

    // The same on the emulated CUDA device, to rounding.
    const auto emulated = run_program(
        folder, "apply --weights %d/w.safetensors --what features %d/a.png --out %d/e --tile whole --device emulated");
    REQUIRE_MESSAGE(emulated.code == 0, emulated.err);
    const Npy there = read_npy(folder.path() + "/e/a.features.npy");
    CHECK(test::difference(ConstView(there.values.data(), static_cast<std::int64_t>(there.values.size())),
                           expected.const_view(), 1e-4, 1e-5)
              .empty());

    // With bfloat16 inside; what is written is float32 all the same.
    const auto rounded = run_program(folder,
                                     "apply --weights %d/w.safetensors --what features %d/a.png --out %d/h --tile "
                                     "whole --device emulated --precision bf16");
    REQUIRE_MESSAGE(rounded.code == 0, rounded.err);
    const Npy half = read_npy(folder.path() + "/h/a.features.npy");
    const ConstView half_view(half.values.data(), static_cast<std::int64_t>(half.values.size()));
    CHECK(half.header == there.header);
    CHECK(test::difference(half_view, expected.const_view(), 1, 3e-2).empty());
    CHECK_FALSE(test::difference(half_view, expected.const_view(), 1, 1e-4).empty());

    // Tiles of the training run's patch by default, the same bytes whatever the threads.
    for (const char* run : {"1", "3"})
        REQUIRE(
            run_program(folder, std::string("apply --weights %d/w.safetensors --what features %d/odd.png --out %d/t") +
                                    run + " --threads " + run)
                .code == 0);
    CHECK(sha256_of_file(folder.path() + "/t1/odd.features.npy") ==
          sha256_of_file(folder.path() + "/t3/odd.features.npy"));
    CHECK(sha256_of_file(folder.path() + "/t1/odd.features.npy") !=
          sha256_of_file(folder.path() + "/f/odd.features.npy"));

    // Colours: one set of axes for all inputs, so that adding a picture changes the others; deterministic.
    for (const char* arguments : {"%d/a.png --out %d/c1", "%d/a.png --out %d/c2", "%d/a.png %d/odd.png --out %d/c3"})
        REQUIRE(run_program(folder, std::string("apply --weights %d/w.safetensors --what rgb ") + arguments).code == 0);
    CHECK(sha256_of_file(folder.path() + "/c1/a.rgb.png") == sha256_of_file(folder.path() + "/c2/a.rgb.png"));
    CHECK(sha256_of_file(folder.path() + "/c1/a.rgb.png") != sha256_of_file(folder.path() + "/c3/a.rgb.png"));
    const Image colours = read_image(folder.path() + "/c3/odd.rgb.png", 3);
    CHECK(colours.height == 77);
    CHECK(colours.width == 101);
}

TEST_CASE("apply: what cannot be used is named and skipped, what is there is kept") {
    const TemporaryFolder folder;
    write_network(folder.path() + "/w.safetensors", 2, 32, prepared_as);
    write_network(folder.path() + "/backbone.safetensors", 2, 32, "", true);
    create_folder(folder.path() + "/in/sub");
    write_picture(folder.path() + "/in/a.png", 40, 40, 1);
    write_picture(folder.path() + "/in/sub/a.png", 40, 40, 2);
    write_file(folder.path() + "/in/broken.png", "\x89PNG\r\n\x1a\n and nothing else");
    const std::vector<unsigned char> flat(3 * 32 * 32, 9);
    write_file(folder.path() + "/in/flat.png", encode_png(32, 32, flat.data()));
    const std::string features = "apply --weights %d/w.safetensors --what features ";
    const auto some = run_program(folder, features + "%d/in %d/none.png --out %d/out --json");
    CHECK_MESSAGE(some.code == 0, some.err);
    for (const char* bad : {"broken.png", "flat.png", "none.png"}) CHECK(some.err.find(bad) != std::string::npos);
    CHECK(some.err.find("3 inputs were skipped") != std::string::npos);
    const auto json = nlohmann::json::parse(some.out);
    CHECK(json["results"].size() == 2);
    CHECK(json["skipped"].size() == 3);
    CHECK(std::filesystem::exists(folder.path() + "/out/a.features.npy"));
    CHECK(std::filesystem::exists(folder.path() + "/out/sub/a.features.npy"));
    int files = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path() + "/out"))
        files += entry.is_regular_file();
    CHECK(files == 2);

    // Nothing good: 4. Results that are there: 3, before anything is computed, and they stay.
    CHECK(run_program(folder, features + "%d/in/broken.png --out %d/out2").code == 4);
    CHECK(!std::filesystem::exists(folder.path() + "/out2"));
    const auto before = sha256_of_file(folder.path() + "/out/a.features.npy");
    const auto kept = run_program(folder, features + "%d/in --out %d/out --tile whole");
    CHECK(kept.code == 3);
    CHECK(kept.err.find("--overwrite") != std::string::npos);
    CHECK(sha256_of_file(folder.path() + "/out/a.features.npy") == before);
    CHECK(run_program(folder, features + "%d/in --out %d/out --tile whole --overwrite").code == 0);
    CHECK(sha256_of_file(folder.path() + "/out/a.features.npy") != before);
    // Two inputs of one name in one place.
    const auto twice = run_program(folder, features + "%d/in/a.png %d/in/sub/a.png --out %d/out3");
    CHECK(twice.code == 0);
    CHECK(twice.err.find("rename one of them") != std::string::npos);

    CHECK(run_program(folder, features + "%d/in/a.png --out %d/w.safetensors/x").code == 7);
    const std::string other = "apply --weights %d/w.safetensors --out %d/o ";
    CHECK(run_program(folder, other + "--what segmentation %d/in/a.png").err.find("no segmentation head") !=
          std::string::npos);
    CHECK(run_program(folder, other + "--what segmentation %d/in/a.png").code == 4);
    CHECK(run_program(folder, other + "--what feature %d/in/a.png").err.find("'features'") != std::string::npos);
    CHECK(run_program(folder, other + "--what displacement %d/in/a.png").code == 2);
    CHECK(run_program(folder, other + "--what displacement %d/in %d/in").code == 2);
    CHECK(run_program(folder, other + "--what displacement %d/in/a.png %d/in/broken.png").code == 4);
    CHECK(run_program(folder, other + "--what features %d/in/a.png --tile 40").code == 2);
    CHECK(run_program(folder, other + "--what features %d/in/a.png --tile 32x32x32").code == 2);
    CHECK(run_program(folder, "apply --weights %d/none --what features %d/in/a.png --out %d/o").code == 7);
    CHECK(run_program(folder, "apply --weights %d/in/a.png --what features %d/in/a.png --out %d/o").code == 4);
    CHECK(!std::filesystem::exists(folder.path() + "/o"));

    // The backbone alone has features, on the picture's own size when nothing is known of the training images.
    const std::string alone = "apply --weights %d/backbone.safetensors --out %d/b ";
    const auto own = run_program(folder, alone + "--what features %d/in/a.png");
    CHECK(own.code == 0);
    CHECK(own.err.find("does not say how its training images were prepared") != std::string::npos);
    const auto no_field = run_program(folder, alone + "--what displacement %d/in/a.png %d/in/sub/a.png");
    CHECK(no_field.code == 4);
    CHECK(no_field.err.find("--part all") != std::string::npos);
}

TEST_CASE("apply: volumes come out as NIfTI with the input's place in space, patch files by their geometry") {
    const TemporaryFolder folder;
    write_network(folder.path() + "/w.safetensors", 3, 16,
                  "{\"channels\":1,\"normalize\":\"minmax\",\"size\":[16,32,16],\"spacing\":[1.5,1.5,1.5],"
                  "\"store\":\"uint16\"}");
    Affine affine;
    affine.m = {0, 0, 1.1, -12, 0, -1.4, 0.2, 30, 2, 0.1, 0, 5, 0, 0, 0, 1};
    const std::array<std::int64_t, 3> shape{9, 19, 14};
    const Tensor noise = test::random_tensor({2, 14, 19, 9}, DType::float32, 5, -50, 50);
    write_nifti(folder.path() + "/v.nii.gz", make_nifti_header(shape, affine), {}, noise.data<float>());
    write_nifti(folder.path() + "/two.nii", make_nifti_header(shape, affine), {.volumes = 2}, noise.data<float>());
    const std::string apply = "apply --weights %d/w.safetensors --out %d/o --what ";
    for (const char* what :
         {"features %d/v.nii.gz %d/two.nii", "rgb %d/v.nii.gz", "displacement %d/v.nii.gz %d/v.nii.gz"}) {
        const auto done = run_program(folder, apply + what);
        REQUIRE_MESSAGE(done.code == 0, done.err);
    }
    const auto source = NiftiReader::open(folder.path() + "/v.nii.gz").header();
    for (const auto& [name, volumes] :
         {std::pair{"v.features.nii.gz", 8}, std::pair{"two.0.features.nii.gz", 8},
          std::pair{"two.1.features.nii.gz", 8}, std::pair{"v_to_v.displacement.nii.gz", 3}}) {
        NiftiReader reader = NiftiReader::open(folder.path() + "/o/" + name);
        CHECK(reader.header().shape == shape);
        CHECK(reader.header().volumes == volumes);
        CHECK(reader.header().affine == source.affine);
        CHECK(reader.header().sform_code == source.sform_code);
        CHECK(reader.header().qform_code == source.qform_code);
        const auto first = reader.next();
        bool varies = false;
        for (const float v : first) varies = varies || v != first[0];
        CHECK(varies);
    }
    CHECK(std::filesystem::exists(folder.path() + "/o/v.rgb.nii.gz"));
    // The first of two volumes is the one of the other file.
    CHECK(sha256_of_file(folder.path() + "/o/v.features.nii.gz") ==
          sha256_of_file(folder.path() + "/o/two.0.features.nii.gz"));
    CHECK(sha256_of_file(folder.path() + "/o/v.features.nii.gz") !=
          sha256_of_file(folder.path() + "/o/two.1.features.nii.gz"));

    // Through `prepare`: the same features, laid back by the patch file's geometry.
    REQUIRE(run_program(folder, "prepare %d/v.nii.gz --spacing 1.5 --size 16x32x16 --out %d/v.h5").code == 0);
    const auto prepared = run_program(folder, apply + "features %d/v.h5 --overwrite --json");
    REQUIRE_MESSAGE(prepared.code == 0, prepared.err);
    NiftiReader direct = NiftiReader::open(folder.path() + "/o/two.0.features.nii.gz");
    NiftiReader stored = NiftiReader::open(folder.path() + "/o/v.features.nii.gz");
    CHECK(stored.header().shape == shape);
    for (int c = 0; c < 8; ++c) {
        const auto a = stored.next(), b = direct.next();
        CHECK(test::difference(ConstView(a.data(), static_cast<std::int64_t>(a.size())),
                               ConstView(b.data(), static_cast<std::int64_t>(b.size())), 1e-4, 1e-5)
                  .empty());
    }
    const auto flat = run_program(folder, apply + "features %d/w.safetensors");
    CHECK(flat.code == 4);
    write_picture(folder.path() + "/p.png", 32, 32, 1);
    CHECK(run_program(folder, apply + "features %d/p.png").err.find("is a picture") != std::string::npos);
}

TEST_CASE("apply: a displacement leads from a point of the fixed file to that of the moving file") {
    ThreadPool pool(2);
    const auto field_of = [](const Grid& g, const Point& u) {
        Tensor field = Tensor::empty({1, g.d, g.h, g.w, g.spatial_dims});
        for (std::int64_t i = 0; i < field.count(); ++i)
            field.data<float>()[i] =
                static_cast<float>(u[static_cast<std::size_t>(3 - g.spatial_dims + i % g.spatial_dims)]);
        return field;
    };
    // Pictures of 60 x 90 and 30 x 60, both stored at 40 x 40. A stored step is 1.5 x 2.25 and 0.75 x 1.5 pixels.
    Sample moving, fixed;
    moving.grid = fixed.grid = {2, 1, 40, 40};
    fixed.source_shape = {1, 60, 90};
    fixed.to_source = Affine::scale_shift({1, 1.5, 2.25}, {0, 0.25, 0.625});
    moving.source_shape = {1, 30, 60};
    moving.to_source = Affine::scale_shift({1, 0.75, 1.5}, {0, -0.125, 0.25});
    auto vectors = app::source_displacement(field_of(fixed.grid, {0, 2, -4}), fixed, fixed, pool);
    REQUIRE(vectors.size() == 60 * 90 * 2);
    CHECK(vectors[2 * (30 * 90 + 45)] == doctest::Approx(3));
    CHECK(vectors[2 * (30 * 90 + 45) + 1] == doctest::Approx(-9));
    vectors = app::source_displacement(field_of(fixed.grid, {0, 2, -4}), moving, fixed, pool);
    // Pixel (30, 45) lies at the share 30.5 / 60, 45.5 / 90 of the picture.
    CHECK(vectors[2 * (30 * 90 + 45)] == doctest::Approx(30.5 / 2 - 0.5 + 1.5 - 30).epsilon(1e-5));
    CHECK(vectors[2 * (30 * 90 + 45) + 1] == doctest::Approx(45.5 * 60 / 90 - 0.5 - 6 - 45).epsilon(1e-5));

    // A volume whose first axis runs up and whose third runs left; stored axes are right, anterior, superior.
    Sample volume;
    volume.grid = {3, 8, 10, 12};
    volume.source_shape = {6, 20, 8};
    volume.source_affine.m = {0, 0, -3, 21, 0, 1.5, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1};
    // Stored (d, h, w) -> (i, j, k): d is k backwards, h half of j, w twice i.
    volume.to_source.m = {0, 0, 0.5, -0.25, 0, 2, 0, 0.5, -1, 0, 0, 7, 0, 0, 0, 1};
    const auto mm = app::source_displacement(field_of(volume.grid, {1, -2, 3}), volume, volume, pool);
    REQUIRE(mm.size() == 6 * 20 * 8 * 3);
    for (std::size_t voxel = 0; voxel < 6 * 20 * 8; voxel += 37) {
        CHECK(mm[3 * voxel] == doctest::Approx(3));       // one stored step right: 3 mm
        CHECK(mm[3 * voxel + 1] == doctest::Approx(-6));  // two back, 3 mm each
        CHECK(mm[3 * voxel + 2] == doctest::Approx(3));   // three up, 1 mm each
    }
}

}  // namespace cover
