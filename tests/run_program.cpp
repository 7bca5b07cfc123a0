#include "tests/run_program.h"

#include <sys/wait.h>

#include <cstdlib>
#include <sstream>

#include "core/file.h"
#include "data/h5_write.h"
#include "nn/init.h"

namespace cover::test {

Outcome run_program(const TemporaryFolder& folder, const std::string& arguments, const std::string& environment) {
    // A bundle for another machine (tools/gpu_bundle.sh) says where the program lies there.
    const char* moved = std::getenv("COVER_PROGRAM");
    std::string words = environment + " " + (moved ? moved : COVER_PROGRAM) + " " + arguments;
    for (auto at = words.find("%d"); at != std::string::npos; at = words.find("%d", at))
        words.replace(at, 2, folder.path());
    const auto out = folder.path() + "/.out", err = folder.path() + "/.err";
    const int status = std::system((words + " >" + out + " 2>" + err + " </dev/null").c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_file(out), read_file(err)};
}

std::vector<nlohmann::json> events_of(const std::string& path, const std::string& kind) {
    std::vector<nlohmann::json> events;
    std::istringstream lines(read_file(path));
    for (std::string line; std::getline(lines, line);)
        if (auto event = nlohmann::json::parse(line); kind.empty() || event["event"] == kind) events.push_back(event);
    return events;
}

void write_small_patches(const std::string& path, std::int64_t side) {
    constexpr std::int64_t samples = 8;
    std::vector<unsigned char> pixels;
    for (std::int64_t s = 0; s < samples; ++s) {
        const Tensor noise = random_tensor({side / 8, side / 8}, DType::float32, static_cast<std::uint32_t>(s), 0, 1);
        for (std::int64_t y = 0; y < side; ++y)
            for (std::int64_t x = 0; x < side; ++x)
                pixels.push_back(
                    static_cast<unsigned char>(255 * (0.7 * noise.data<float>()[y / 8 * (side / 8) + x / 8] +
                                                      0.3 * static_cast<double>(x) / static_cast<double>(side))));
    }
    H5Writer writer(path);
    writer.dataset("/images", H5Store::uint8, {samples, 1, side, side}, pixels.data());
    writer.commit();
}

ModelConfig small_network(int spatial_dims) {
    return {.spatial_dims = spatial_dims,
            .channels = {8, 8, 16, 16, 16, 16, 16, 8, 8},
            .head_dim = 4,
            .heads = {2, 2, 1, 1, 1}};
}

Model small_model(const ModelConfig& config) {
    Model model(config);
    initialise(model.parameters(), 1);
    Tensor& values = model.parameters().values();
    const Tensor noise = random_tensor({values.count()}, DType::float32, 7, -0.1, 0.1);
    for (const auto& parameter : model.parameters().list())
        if (parameter.shape.rank() == 1)
            for (std::int64_t i = 0; i < parameter.shape.count(); ++i)
                values.data<float>()[parameter.offset + i] += noise.data<float>()[parameter.offset + i];
    return model;
}

Metadata small_metadata(const ModelConfig& config, std::int64_t patch, const std::string& preprocessing) {
    Metadata metadata = to_metadata(config);
    metadata["patch"] = config.spatial_dims == 2 ? text(patch, ",", patch) : text(patch, ",", patch, ",", patch);
    for (const auto& [key, value] : {std::pair{"degree", "1"}, std::pair{"rotation", "20"}, std::pair{"scale", "0.5"},
                                     std::pair{"translation", "0.2"}, std::pair{"shear", "5"}})
        metadata[key] = value;
    if (!preprocessing.empty()) metadata["preprocessing"] = preprocessing;
    return metadata;
}

}  // namespace cover::test
