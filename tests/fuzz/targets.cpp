#include "tests/fuzz/targets.h"

namespace cover::fuzz {

const std::vector<Target>& targets() {
    static const std::vector<Target> all = {
        {"config", config}, {"hdf5_facts", hdf5_facts}, {"image", image},
        {"index", index},   {"nifti", nifti},           {"safetensors", safetensors},
    };
    return all;
}

}  // namespace cover::fuzz
