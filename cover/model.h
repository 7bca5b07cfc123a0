// The network of COVER: U-Net and vector pyramid over one set of parameters, and its weights file.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cover/pyramid.h"
#include "nn/unet.h"

namespace cover {

struct ModelConfig {
    int spatial_dims = 2;
    std::int64_t in_channels = 1;
    std::vector<std::int64_t> channels{32, 64, 128, 256, 512, 256, 128, 64, 32};
    int head_dim = 8;
    std::vector<int> heads{4, 4, 4, 1, 1};  // coarse to fine
    int radius = 2;
    int levels = 5;
    WarpConvention warp = WarpConvention::exact;

    friend bool operator==(const ModelConfig&, const ModelConfig&) = default;
};

class Model {
public:
    // Weights are zero until initialise() (nn/init.h) or load(). dtype is that of features; parameters and fields have
    // its real type (core/dtype.h). float64 is for verification on the reference rows.
    explicit Model(const ModelConfig& config, DType dtype = DType::float32, Device device = Device::cpu);

    const ModelConfig& config() const { return config_; }
    DType dtype() const { return dtype_; }
    ParameterSet& parameters() { return parameters_; }
    const ParameterSet& parameters() const { return parameters_; }

    struct Prediction {
        std::vector<Var> moving, fixed;  // features coarse to fine, (B,...)
        Var field;                       // psi' (B,D,H,W,nd), of real type
    };
    // views: (2B,D,H,W,Cin) of real type, the moving views first.
    // trace: the pyramid's levels, coarse to fine, where asked for.
    Prediction predict(Graph& graph, const Var& views, std::vector<PyramidLevel>* trace = nullptr) const;

    // Features of any images (N,D,H,W,Cin) of real type, coarse to fine.
    std::vector<Var> features(Graph& graph, const Var& images) const;

    // The weights under the authors' names and layout, `mov.grid` included; backbone_only leaves out proj and mov.
    std::vector<NamedTensor> to_file(bool backbone_only = false) const;
    // Missing, unexpected and mis-shaped tensors are all named in one Error(data) that starts with `source`. With
    // backbone_only the file may lack `proj.*`, whose values then stay; `mov.grid` is optional.
    void load(const std::vector<NamedTensor>& tensors, const std::string& source, bool backbone_only = false);

private:
    ModelConfig config_;
    DType dtype_;
    ParameterSet parameters_;
    UNet unet_;
    VectorPyramid pyramid_;
};

// Architecture as strings for the metadata of a weights file, and back. Unknown keys are ignored; a missing or
// malformed one is an Error(data) that names it.
std::map<std::string, std::string> to_metadata(const ModelConfig& config);
ModelConfig from_metadata(const std::map<std::string, std::string>& metadata, const std::string& source);

}  // namespace cover
