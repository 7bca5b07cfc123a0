// The backbone, spec section 2: four times down, four times up, five feature maps out.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "nn/layers.h"

namespace cover {

class UNet {
public:
    // channels: nine, from the first level down to the bottom and up again, each a multiple of 8.
    UNet(ParameterSet& parameters, std::int64_t in_channels, const std::vector<std::int64_t>& channels);

    // x (N,D,H,W,Cin) in the type that features shall have, pooled sides multiples of 16 (Error(configuration)
    // otherwise). Features from coarse to fine: [0] = f5 at 1/16, ... [4] = f1 at full resolution. Only the first
    // `levels` of them are computed.
    std::vector<Var> operator()(Graph& graph, const ParameterSet& parameters, const Var& x, int levels = 5) const;

private:
    std::vector<DoubleConv> down_;  // inc, down1 .. down4
    std::vector<DoubleConv> up_;    // up1 .. up4
};

}  // namespace cover
