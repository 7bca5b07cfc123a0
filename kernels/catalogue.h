// Every op and its rows as plain data: what --kernel may name and what `cover info` lists.
#pragma once

#include <string>
#include <vector>

#include "kernels/variant.h"

namespace cover {

struct RowFacts {
    std::string name;
    Device device = Device::cpu;
    DType dtype = DType::float32;
    Math math = Math::exact;
};

struct OpRows {
    std::string op;  // "conv_backward_data"
    std::vector<RowFacts> rows;
};

// In the order of the tables' pages.
const std::vector<OpRows>& kernel_catalogue();

// "OP:ROW" entries as the tables want them; "conv:ROW" is set for each of the three conv tables that has ROW, and so
// for every op with a backward of its own name ("warp:ROW" for warp and warp_backward). A later entry replaces an
// earlier one. Error(configuration) on an entry without a colon, an unknown op or an unknown row, naming the nearest.
KernelSelection selection_of(const std::vector<std::string>& entries);

}  // namespace cover
