// Label-free scores of a trained network; docs/evaluate.md defines them for users.
#pragma once

#include <array>
#include <vector>

#include "cover/model.h"
#include "cover/views.h"

namespace cover {

inline constexpr std::array<std::int64_t, 6> similarity_distances{1, 2, 4, 8, 16, 32};

struct Evaluation {
    double epe = 0;             // mean |psi' - psi|_2 over the valid pixels of all pairs, pixels
    double epe_ratio = 0;       // that over the mean |psi|_2
    double loss_vec_ratio = 0;  // sum |psi' - psi|_1 / sum |psi|_1
    double consistency = 0;     // mean cosine of warp(f1_a, psi) and f1_b over valid pixels: 1 - L_con
    // Mean cosine between full-resolution features of F that many pixels apart along each axis; NaN when the patch is
    // smaller than the distance.
    std::array<double, 6> similarity{};
    double beyond_reach = 0;  // share of valid pixels whose true displacement the pyramid cannot express
    std::int64_t pairs = 0;
    std::int64_t valid_pixels = 0;
};

class Evaluator {
public:
    // config: completed; degree and patch are those of the training run.
    Evaluator(const Model& model, const TrainConfig& config, Stream& stream);

    // Pairs made from these stored images (B,D,H,W,C): affine only, no appearance change.
    void add(const Tensor& images, const std::vector<SampleKey>& keys);
    // Throws Error(data) when no valid pixel was seen.
    Evaluation result() const;

    // The last pairs and their prediction, for pictures.
    const Views& views() const { return views_; }
    const Tensor& predicted() const { return predicted_; }

private:
    const Model& model_;
    TrainConfig config_;
    Stream& stream_;
    Views views_;
    Tensor predicted_;
    double valid_ = 0, error2_ = 0, length2_ = 0, error1_ = 0, length1_ = 0, cosine_ = 0, beyond_ = 0;
    std::array<double, 6> similarity_{}, similarity_pairs_{};
    std::int64_t pairs_ = 0;
};

}  // namespace cover
