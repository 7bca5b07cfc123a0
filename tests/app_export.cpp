// `cover export`: cover_unet.py beside the weights, and metadata that cannot be true.
#include <filesystem>

#include "app/unet_module.h"
#include "core/file.h"
#include "data/h5_write.h"
#include "tests/run_program.h"

namespace cover {
namespace {

using test::run_program;

void write_weights(const std::string& path, const ModelConfig& config, const Metadata& metadata) {
    write_safetensors(path, test::small_model(config).to_file(), metadata);
}

}  // namespace

TEST_CASE("export: cover_unet.py carries the constants of the network") {
    const test::TemporaryFolder folder;
    ModelConfig config = test::small_network(3);
    config.warp = WarpConvention::reference;
    config.levels = 3;
    write_weights(folder.path() + "/w.safetensors", config, test::small_metadata(config, 16));
    const auto done = run_program(folder, "export %d/w.safetensors --out %d/x.safetensors");
    REQUIRE_MESSAGE(done.code == 0, done.err);
    const auto module = read_file(folder.path() + "/cover_unet.py");
    for (const char* line : {"\nDIMS = 3 ", "\nIN_CHANNELS = 1 ", "\nCHANNELS = (8, 8, 16, 16, 16, 16, 16, 8, 8) ",
                             "\nHEAD_DIM = 4 ", "\nHEADS = (2, 2, 1, 1, 1) ", "\nRADIUS = 2 ", "\nLEVELS = 3 ",
                             "\nWARP = \"reference\" ", "\ndef load(path):"})
        CHECK_MESSAGE(module.find(line) != std::string::npos, line);
    // With the default network it is the file of the sources, byte for byte.
    CHECK(app::unet_module(ModelConfig{}) == read_file(COVER_SOURCE_DIR "/app/cover_unet.py"));

    // Written again over itself, but not over somebody's own.
    CHECK(run_program(folder, "export %d/w.safetensors --out %d/x.safetensors").code == 0);
    write_file(folder.path() + "/cover_unet.py", "mine\n");
    const auto refused = run_program(folder, "export %d/w.safetensors --out %d/y.safetensors");
    CHECK(refused.code == 7);
    CHECK(refused.err.find("cover_unet.py") != std::string::npos);
    CHECK(read_file(folder.path() + "/cover_unet.py") == "mine\n");
    CHECK(!std::filesystem::exists(folder.path() + "/y.safetensors"));
}

TEST_CASE("export and evaluate: views that no network was trained with are a data error") {
    const test::TemporaryFolder folder;
    const ModelConfig config = test::small_network(2);
    const std::vector<unsigned char> pixels(2 * 48 * 48, 7);
    H5Writer writer(folder.path() + "/data.h5");
    writer.dataset("/images", H5Store::uint8, {2, 1, 48, 48}, pixels.data());
    writer.commit();
    const auto sound = test::small_metadata(config, 32);
    write_weights(folder.path() + "/w.safetensors", config, sound);
    CHECK(run_program(folder, "export %d/w.safetensors --out %d/x.safetensors").code == 0);
    for (const auto& [key, value] :
         {std::pair{"degree", "2"}, std::pair{"degree", "1e300"}, std::pair{"degree", "nan"}, std::pair{"scale", "1e9"},
          std::pair{"rotation", "1e99"}, std::pair{"shear", "-1"}, std::pair{"patch", "40,40"},
          std::pair{"patch", "16777216,16777216"}, std::pair{"patch", "32"}, std::pair{"patch", "0,0"}}) {
        auto altered = sound;
        altered[key] = value;
        write_weights(folder.path() + "/w.safetensors", config, altered);
        for (const char* command : {"export %d/w.safetensors --out %d/y.safetensors",
                                    "evaluate --weights %d/w.safetensors --data %d/data.h5 --pairs 1"}) {
            const auto refused = run_program(folder, command);
            CHECK_MESSAGE(refused.code == 4, command << " " << key << " " << value << ": " << refused.err);
            CHECK_MESSAGE(refused.err.find(key) != std::string::npos, refused.err);
        }
        CHECK(!std::filesystem::exists(folder.path() + "/y.safetensors"));
    }
}

}  // namespace cover
