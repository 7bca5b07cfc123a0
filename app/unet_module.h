// cover_unet.py, the network as one PyTorch module file that needs nothing of this project. The text is
// app/cover_unet.py with the constants of one network put in.
#pragma once

#include <string>

#include "cover/model.h"

namespace cover::app {

std::string unet_module(const ModelConfig& config);

// Writes cover_unet.py into the folder of `weights` and returns its path. Throws Error(io) when a file of that name is
// there that no export has written; refuse_foreign_module() alone only looks.
std::string write_unet_module(const std::string& weights, const ModelConfig& config);
void refuse_foreign_module(const std::string& weights);

}  // namespace cover::app
