#include "tests/run_program.h"

#include <sys/wait.h>

#include <cstdlib>

#include "core/file.h"
#include "nn/init.h"

namespace cover::test {

Outcome run_program(const TemporaryFolder& folder, std::string arguments) {
    for (auto at = arguments.find("%d"); at != std::string::npos; at = arguments.find("%d", at))
        arguments.replace(at, 2, folder.path());
    const auto out = folder.path() + "/.out", err = folder.path() + "/.err";
    const int status = std::system((COVER_PROGRAM " " + arguments + " >" + out + " 2>" + err + " </dev/null").c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128, read_file(out), read_file(err)};
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
