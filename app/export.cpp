// cover export: the weights of a run as one file for others.
#include <cstdio>

#include "app/commands.h"
#include "app/weights.h"
#include "core/check.h"

namespace cover::app {

int run(const ExportOptions& options) {
    const auto path = weights_path(options.run);
    auto file = read_safetensors(path);
    const bool backbone = options.part == "backbone";
    require(backbone || !is_backbone_only(file), ErrorKind::data, "[export] ", path,
            ": holds the backbone alone; ask for --part backbone");
    // Through a model: what leaves this program is complete, and of the shapes that its metadata promise.
    const ModelConfig config = from_metadata(file.metadata, path);
    check_size(file, config, path);
    Model model(config);
    model.load(file.tensors, path, backbone);
    const auto tensors = model.to_file(backbone);
    write_safetensors(options.out, tensors, file.metadata);
    std::fprintf(stderr, "%s: %zu tensors, %s\n", options.out.c_str(), tensors.size(),
                 backbone ? "the backbone" : "the whole model");
    return 0;
}

}  // namespace cover::app
