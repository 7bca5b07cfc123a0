// cover export: the weights of a run as one file for others.
#include <cstdio>

#include "app/commands.h"
#include "app/unet_module.h"
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
    check_views(file.metadata, path);
    check_size(file, config, path);
    Model model(config);
    model.load(file.tensors, path, backbone);
    const auto tensors = model.to_file(backbone);
    refuse_foreign_module(options.out);
    write_safetensors(options.out, tensors, file.metadata);
    const auto module = write_unet_module(options.out, config);
    std::fprintf(stderr, "%s: %zu tensors, %s\n%s: a PyTorch module that loads it; needs torch alone\n",
                 options.out.c_str(), tensors.size(), backbone ? "the backbone" : "the whole model", module.c_str());
    return 0;
}

}  // namespace cover::app
