// Collects samples beside the output until their number is known, then writes the patch file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/h5_write.h"
#include "data/patches.h"
#include "data/prepare_sample.h"

namespace cover {

class PrepareOutput {
public:
    // Throws Error(io) here and below.
    explicit PrepareOutput(const std::string& path);
    ~PrepareOutput();

    // values in [0, 1]. The first sample decides size, channels and kind of labels; Error(data) for one that differs.
    void add(const Sample& sample, std::optional<H5Store> store);
    std::int64_t count() const;
    Grid grid() const;
    int channels() const;
    H5Store store() const;
    // Largest over smallest spacing of all samples, of the axis where they differ most; 1 when they agree.
    double spacing_ratio() const;

    void write(const std::string& preprocessing);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace cover
