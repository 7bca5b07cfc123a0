// Everything else that the program may be fed: pictures, weights, configurations, shapes and outputs that cannot be.
// Each ends in a sentence and the right exit code, with nothing lost or half-written.
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "core/check.h"
#include "core/file.h"
#include "core/hash.h"
#include "cover/model.h"
#include "data/h5_write.h"
#include "data/image.h"
#include "nn/safetensors.h"
#include "tests/data_support.h"
#include "tests/hostile_support.h"
#include "tests/nifti_support.h"

namespace cover::test {
namespace {

const std::string tiny_network = " --channels 8,8,8,8,8,8,8,8,8 --heads 1,1,1,1,1 --batch 1 --steps 2 --threads 1 ";

void write_patches(const std::string& path, std::int64_t side, std::int64_t samples = 2) {
    std::vector<unsigned char> pixels(static_cast<std::size_t>(samples * side * side));
    RandomStream random({.seed = 3, .purpose = Purpose::test});
    for (auto& p : pixels) p = static_cast<unsigned char>(random.below(256));
    H5Writer writer(path);
    writer.dataset("/images", H5Store::uint8, {samples, 1, side, side}, pixels.data());
    writer.commit();
}

std::size_t entries(const std::string& folder) {
    return static_cast<std::size_t>(std::distance(std::filesystem::recursive_directory_iterator(folder), {}));
}

std::string with_header(const std::string& header, const std::string& data) {
    std::string bytes(8, '\0');
    const std::uint64_t length = header.size();
    std::memcpy(bytes.data(), &length, 8);
    return bytes + header + data;
}

}  // namespace

TEST_CASE("hostile pictures: every corrupt file of PngSuite is refused, the good ones beside them are taken") {
    const TemporaryFolder folder;
    const std::string suite = COVER_SOURCE_DIR "/tests/files/pngsuite";
    std::size_t corrupt = 0;
    for (const auto& entry : std::filesystem::directory_iterator(suite)) {
        const std::string path = entry.path().string();
        if (entry.path().extension() != ".png") continue;
        ++corrupt;
        const std::string sentence = data_error([&] { (void)read_image(path); });
        CHECK_MESSAGE(sentence.rfind("[image] " + path + ": ", 0) == 0, sentence);
        std::filesystem::copy_file(path, folder.path() + "/" + entry.path().filename().string());
    }
    CHECK(corrupt >= 8);
    CHECK(misfit(run_limited(folder, "prepare %d --out %d.h5"), 4, "nothing could be used") == "");
    CHECK(!std::filesystem::exists(folder.path() + ".h5"));
    CHECK(misfit(run_limited(folder, "prepare %d --out %d.h5 --strict"), 4, "damaged PNG") == "");
    CHECK(!std::filesystem::exists(folder.path() + ".h5"));

    const std::vector<unsigned char> rgb(3 * 40 * 40, 128);
    std::vector<unsigned char> ramp = rgb;
    for (std::size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<unsigned char>(i % 251);
    write_file(folder.path() + "/good.png", encode_png(40, 40, ramp.data()));
    const auto mixed = run_limited(folder, "prepare %d --out %d.h5 --size 32");
    CHECK(mixed.code == 0);
    for (const auto& entry : std::filesystem::directory_iterator(suite))
        if (entry.path().extension() == ".png")
            CHECK_MESSAGE(mixed.err.find(entry.path().filename().string()) != std::string::npos, mixed.err);
    CHECK(std::filesystem::exists(folder.path() + ".h5"));
    std::filesystem::remove(folder.path() + ".h5");
}

TEST_CASE("hostile pictures: a header that promises what no file holds, and a scan without end") {
    const std::vector<unsigned char> rgb(3 * 8 * 8, 7);
    std::string png = encode_png(8, 8, rgb.data());
    png[16] = png[20] = 0x7f;  // sides of two thousand million
    CHECK(data_error([&] { (void)decode_image(png, "a.png"); }).find("a.png") != std::string::npos);

    // A gray progressive JPEG of one block whose first scan is repeated three hundred times.
    const unsigned char head[] = {0xff, 0xd8, 0xff, 0xdb, 0, 67, 0};
    std::string jpeg(reinterpret_cast<const char*>(head), sizeof head);
    jpeg += std::string(64, '\1');
    const unsigned char frame[] = {0xff, 0xc2, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0,
                                   // one Huffman code of one bit: category 0
                                   0xff, 0xc4, 0, 20, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    jpeg.append(reinterpret_cast<const char*>(frame), sizeof frame);
    const unsigned char scan[] = {0xff, 0xda, 0, 8, 1, 1, 0, 0, 0, 0, 0x7f};
    for (int i = 0; i < 300; ++i) jpeg.append(reinterpret_cast<const char*>(scan), sizeof scan);
    jpeg += "\xff\xd9";
    const std::string sentence = data_error([&] { (void)decode_image(jpeg, "a.jpg"); });
    CHECK_MESSAGE(sentence.find("a.jpg: damaged JPEG") != std::string::npos, sentence);
}

TEST_CASE("hostile volumes: a file cut at ten places, and headers of sizes that cannot be") {
    const TemporaryFolder folder;
    const std::string whole = bytes_of(COVER_SOURCE_DIR "/tests/readers/standard.nii.gz");
    REQUIRE(whole.size() > 100);
    const std::string path = folder.path() + "/v.nii.gz";
    const std::string prepare = "prepare %d/v.nii.gz --out %d/out.h5";
    for (std::size_t piece = 1; piece <= 10; ++piece) {
        CAPTURE(piece);
        write_bytes(path, whole.substr(0, whole.size() * piece / 11));
        CHECK(misfit(run_limited(folder, prepare), 4, path) == "");
        CHECK(entries(folder.path()) == 1);
    }
    MadeNifti made;
    made.dim = {3, 2, 3, 4, 1, 1, 1, 1};
    for (int i = 0; i < 24; ++i) made.values.push_back(i);
    const std::string good = nifti_bytes(made);
    const auto with_side = [&](int axis, std::int16_t side) {
        std::string bytes = good;
        std::memcpy(bytes.data() + 40 + 2 * axis, &side, 2);
        return bytes;
    };
    write_bytes(path, good);
    CHECK(run_limited(folder, prepare).code == 0);
    std::filesystem::remove(folder.path() + "/out.h5");
    reset_peak();
    for (const std::string& bytes : {with_side(0, 8), with_side(0, -1), with_side(1, -2), with_side(2, 0),
                                     with_side(3, 32767), gzipped(with_side(3, 32767))}) {
        write_bytes(path, bytes);
        CHECK(misfit(run_limited(folder, prepare), 4, path) == "");
        CHECK(entries(folder.path()) == 1);
    }
    MadeNifti second = made;
    second.version = 2;
    for (const std::int64_t side : {std::int64_t{-1}, std::int64_t{1} << 40, INT64_MAX, INT64_MIN}) {
        std::string bytes = nifti_bytes(second);
        for (std::size_t axis = 1; axis <= 3; ++axis) std::memcpy(bytes.data() + 16 + 8 * axis, &side, 8);
        write_bytes(path, bytes);
        CHECK(misfit(run_limited(folder, prepare), 4, path) == "");
    }
}

TEST_CASE("hostile index: what no table of images is") {
    const TemporaryFolder folder;
    const std::vector<unsigned char> rgb(3 * 8 * 8, 7);
    write_file(folder.path() + "/a.png", encode_png(8, 8, rgb.data()));
    write_file(folder.path() + "/index.csv", "id,split\n\"a,train\n");
    CHECK(misfit(run_limited(folder, "prepare %d --out %d.h5 --split train"), 4, "never ends") == "");
    write_file(folder.path() + "/index.csv", std::string(std::size_t{5} << 20, ','));
    CHECK(misfit(run_limited(folder, "prepare %d --out %d.h5 --split train"), 4, "fields") == "");
    write_file(folder.path() + "/index.csv", "id,split\nnobody,test\n");
    CHECK(misfit(run_limited(folder, "prepare %d --out %d.h5 --split train"), 4, "no row of index.csv") == "");
    CHECK(!std::filesystem::exists(folder.path() + ".h5"));
}

TEST_CASE("hostile weights: damaged files and those of another network end with 4 and name what differs") {
    const TemporaryFolder folder;
    write_patches(folder.path() + "/data.h5", 48);
    const std::string train = "pretrain --data %d/data.h5 --patch 32" + tiny_network;
    REQUIRE(run_limited(folder, train + "--out %d/run").code == 0);
    const auto good = read_safetensors(folder.path() + "/run/model.safetensors");
    const std::string file = folder.path() + "/w.safetensors";
    const auto before = entries(folder.path());
    const auto refused = [&](const std::string& part) {
        std::string all;
        for (const char* command : {"evaluate --data %d/data.h5 --weights %d/w.safetensors",
                                    "export %d/w.safetensors --out %d/x.safetensors"})
            all += misfit(run_limited(folder, command), 4, part);
        all += misfit(run_limited(folder, train + "--init %d/w.safetensors --out %d/other"), 4, part);
        if (entries(folder.path()) != before + 1) all += " something was left behind";
        return all;
    };

    SUBCASE("no weights file") {
        write_file(file, "");
        CHECK(refused("at least 8") == "");
        std::string huge = with_header("{}", "");
        huge[0] = 0;
        huge[7] = 0x10;  // 2^60
        write_file(file, huge);
        CHECK(refused("promises a header of 1152921504606846976 bytes") == "");
        write_file(file, read_file(folder.path() + "/run/model.safetensors").substr(0, 20000));
        CHECK(refused("cut short") == "");
    }
    SUBCASE("ranges") {
        write_file(file, with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                     R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
                                     std::string(12, '\0')));
        CHECK(refused("inside the one before it") == "");
        write_file(file, with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999999]}})",
                                     std::string(8, '\0')));
        CHECK(refused("claims bytes") == "");
        write_file(file, with_header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
                                     R"("a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})",
                                     std::string(16, '\0')));
        CHECK(refused("appears twice") == "");
        write_file(file,
                   with_header(R"({"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}})", std::string(8, '\0')));
        CHECK(refused("has type 'I32'") == "");
    }
    SUBCASE("another network") {
        std::vector<NamedTensor> tensors;
        for (const auto& [name, tensor] : good.tensors) {
            if (name == "backbone.down1.maxpool_conv.1.double_conv.4.bias") continue;
            tensors.push_back({name, name == "backbone.inc.double_conv.1.weight" ? Tensor::zeros({9}) : tensor});
        }
        tensors.push_back({"backbone.extra\x1b[31m.weight", Tensor::zeros({100})});
        write_safetensors(file, tensors, good.metadata);
        for (const char* part :
             {"missing: backbone.down1.maxpool_conv.1.double_conv.4.bias", "unexpected: backbone.extra\\x1b[31m.weight",
              "backbone.inc.double_conv.1.weight (9,) instead of (8,)"})
            CHECK(refused(part) == "");
    }
    SUBCASE("a network of other widths") {
        CHECK(misfit(run_limited(folder,
                                 "pretrain --data %d/data.h5 --patch 32 --channels 16,8,8,8,8,8,8,8,8 --batch 1 "
                                 "--heads 1,1,1,1,1 --init %d/run/model.safetensors --out %d/other"),
                     4, "backbone.inc.double_conv.0.weight (8, 1, 3, 3) instead of (16, 1, 3, 3)") == "");
        CHECK(!std::filesystem::exists(folder.path() + "/other"));
    }
    SUBCASE("values") {
        std::vector<NamedTensor> tensors;
        for (const auto& t : good.tensors) {
            Tensor copy = t.tensor.converted(DType::float64).converted(DType::float32);
            if (t.name == "backbone.inc.double_conv.0.weight")
                copy.data<float>()[3] = std::numeric_limits<float>::quiet_NaN();
            tensors.push_back({t.name, copy});
        }
        write_safetensors(file, tensors, good.metadata);
        CHECK(refused("tensor backbone.inc.double_conv.0.weight holds a value that is NaN") == "");
    }
}

TEST_CASE("hostile settings: keys, patches and images that do not fit end with 3") {
    const TemporaryFolder folder;
    write_patches(folder.path() + "/data.h5", 48);
    write_patches(folder.path() + "/small.h5", 12);
    const std::string head = "pretrain --out %d/run --data ";
    CHECK(misfit(run_limited(folder, head + "%d/data.h5 --patch 40" + tiny_network), 3, "multiple of 16") == "");
    CHECK(misfit(run_limited(folder, head + "%d/data.h5 --patch 64" + tiny_network), 3, "larger than the 48") == "");
    CHECK(misfit(run_limited(folder, head + "%d/small.h5" + tiny_network), 3, "larger than the 12") == "");
    CHECK(misfit(run_limited(folder, head + "%d/data.h5 --set wieght_decay=1"), 3, "'weight_decay'") == "");
    write_file(folder.path() + "/run.toml", "learning_rate = 3\n");
    CHECK(misfit(run_limited(folder, head + "%d/data.h5 --config %d/run.toml"), 3, "no key 'learning_rate'") == "");
    write_file(folder.path() + "/run.toml", "lr = \"\xff\xfe\"\n");
    CHECK(misfit(run_limited(folder, head + "%d/data.h5 --config %d/run.toml"), 3, "run.toml") == "");
    write_file(folder.path() + "/run.toml", "channels = " + std::string(100000, '['));
    CHECK(misfit(run_limited(folder, head + "%d/data.h5 --config %d/run.toml"), 3, "run.toml") == "");
    CHECK(misfit(run_limited(folder, head + "%d/data.h5 --batch 1000000 --patch 32"), 5, "GiB are free") == "");
    CHECK(misfit(run_limited(folder, "bench step --batch 1000000"), 5, "GiB are free") == "");
    CHECK(!std::filesystem::exists(folder.path() + "/run"));
}

TEST_CASE("hostile outputs: what cannot be written ends with 7, and what was there before stays") {
    const TemporaryFolder folder;
    write_patches(folder.path() + "/data.h5", 48, 8);
    const std::string train = "pretrain --data %d/data.h5 --patch 32" + tiny_network;
    REQUIRE(run_limited(folder, train + "--out %d/run").code == 0);
    REQUIRE(run_limited(folder, "export %d/run --out %d/w.safetensors").code == 0);
    REQUIRE(run_limited(folder, "prepare %d/data.h5 --out %d/out.h5").code == 0);
    const auto weights = sha256_of_file(folder.path() + "/w.safetensors");
    const auto patches = sha256_of_file(folder.path() + "/out.h5");
    const auto before = entries(folder.path());

    // A file that may not grow beyond 8 blocks of 512 bytes, as on a full disk.
    const std::string full = "ulimit -f 8;";
    CHECK(misfit(run_limited(folder, "export %d/run --out %d/w.safetensors", full), 7, "w.safetensors") == "");
    CHECK(misfit(run_limited(folder, "prepare %d/data.h5 --out %d/out.h5", full), 7, "out.h5") == "");
    CHECK(sha256_of_file(folder.path() + "/w.safetensors") == weights);
    CHECK(sha256_of_file(folder.path() + "/out.h5") == patches);
    CHECK(entries(folder.path()) == before);

    // A folder below a file cannot be, for the administrator neither.
    CHECK(misfit(run_limited(folder, train + "--out %d/data.h5/run"), 7, "is no folder") == "");
    CHECK(misfit(run_limited(folder, "prepare %d/data.h5 --out %d/data.h5/x.h5"), 7, "x.h5") == "");
    CHECK(misfit(run_limited(folder, "export %d/run --out %d/none/w.safetensors"), 7, "none/w.safetensors") == "");
    CHECK(misfit(run_limited(folder, "export %d/run --out %d/run"), 7, "is a folder") == "");
    CHECK(entries(folder.path()) == before);
    // A device stays a device.
    if (std::filesystem::is_character_file("/dev/full")) {
        CHECK(misfit(run_limited(folder, "export %d/run --out /dev/full"), 7, "device") == "");
        CHECK(std::filesystem::is_character_file("/dev/full"));
    }
    if (geteuid() != 0) {
        std::filesystem::permissions(folder.path() + "/run",
                                     std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
        CHECK(misfit(run_limited(folder, "export %d/run --out %d/run/x.safetensors"), 7, "ermission") == "");
        std::filesystem::permissions(folder.path() + "/run", std::filesystem::perms::owner_all);
    }
}

}  // namespace cover::test
