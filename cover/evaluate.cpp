#include "cover/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/warp.h"

namespace cover {
namespace {

double cosine(const float* a, const float* b, std::int64_t channels) {
    double dot = 0, aa = 0, bb = 0;
    for (std::int64_t c = 0; c < channels; ++c) {
        dot += static_cast<double>(a[c]) * b[c];
        aa += static_cast<double>(a[c]) * a[c];
        bb += static_cast<double>(b[c]) * b[c];
    }
    return dot / (std::max(std::sqrt(aa), 1e-12) * std::max(std::sqrt(bb), 1e-12));
}

}  // namespace

Evaluator::Evaluator(const Model& model, const TrainConfig& config, Stream& stream)
    : model_(model), config_(config), stream_(stream) {
    config_.limit_reach = LimitReach::off;
}

void Evaluator::add(const Tensor& images, const std::vector<SampleKey>& keys) {
    views_ = make_views(images, keys, config_, stream_, {.appearance = false, .elastic_allowed = false});
    Graph graph(stream_, config_.dims, Graph::Retention::nothing);
    const Model::Prediction prediction = model_.predict(graph, graph.constant(views_.images));
    const Tensor moving = graph.value(prediction.moving.back());
    Tensor warped = Tensor::empty(moving.shape(), moving.dtype(), moving.device());
    const std::int64_t batch = moving.side(0), channels = moving.side(4), nd = config_.dims;
    const Grid grid = graph.grid_of(moving);
    warp(warped.view(), moving.view(), views_.field.const_view(),
         {.n = batch, .grid = grid, .channels = channels, .convention = model_.config().warp}, stream_);
    for (Tensor* tensor : {&views_.images, &views_.field, &views_.mask}) *tensor = tensor->to(Device::cpu);
    predicted_ = prediction.field.value.to(Device::cpu);
    const auto on_host = [](const Tensor& features) {
        const Tensor host = features.to(Device::cpu);
        return host.dtype() == DType::float32 ? host : host.converted(DType::float32);
    };
    const Tensor fixed = on_host(graph.value(prediction.fixed.back()));
    warped = on_host(warped);

    const double reach = pyramid_reach(config_);
    const float* psi = views_.field.data<float>();
    const float* predicted = std::as_const(predicted_).data<float>();
    const float* mask = views_.mask.data<float>();
    for (std::int64_t i = 0; i < batch * grid.pixels(); ++i) {
        if (mask[i] == 0) continue;
        double error = 0, length = 0, largest = 0;
        for (std::int64_t a = 0; a < nd; ++a) {
            const double truth = psi[i * nd + a], difference = predicted[i * nd + a] - truth;
            error += difference * difference;
            length += truth * truth;
            error1_ += std::abs(difference);
            length1_ += std::abs(truth);
            largest = std::max(largest, std::abs(truth));
        }
        valid_ += 1;
        error2_ += std::sqrt(error);
        length2_ += std::sqrt(length);
        beyond_ += largest > reach;
        cosine_ +=
            cosine(std::as_const(warped).data<float>() + i * channels, fixed.data<float>() + i * channels, channels);
    }
    const std::int64_t sides[3] = {grid.d, grid.h, grid.w}, strides[3] = {grid.h * grid.w, grid.w, 1};
    for (std::size_t k = 0; k < similarity_distances.size(); ++k)
        for (std::int64_t axis = 3 - nd; axis < 3; ++axis) {
            const std::int64_t distance = similarity_distances[k];
            for (std::int64_t i = 0; i < batch * grid.pixels(); ++i) {
                if (i / strides[axis] % sides[axis] + distance >= sides[axis]) continue;
                const float* f = fixed.data<float>() + i * channels;
                similarity_[k] += cosine(f, f + distance * strides[axis] * channels, channels);
                similarity_pairs_[k] += 1;
            }
        }
    pairs_ += batch;
}

Evaluation Evaluator::result() const {
    require(valid_ > 0, ErrorKind::data, "[evaluate] none of ", pairs_,
            " pairs has a pixel that stays inside the patch; use a smaller --degree or more --pairs");
    Evaluation e{.epe = error2_ / valid_,
                 .epe_ratio = error2_ / length2_,
                 .loss_vec_ratio = error1_ / length1_,
                 .consistency = cosine_ / valid_,
                 .beyond_reach = beyond_ / valid_,
                 .pairs = pairs_,
                 .valid_pixels = static_cast<std::int64_t>(valid_)};
    for (std::size_t k = 0; k < similarity_.size(); ++k)
        e.similarity[k] =
            similarity_pairs_[k] > 0 ? similarity_[k] / similarity_pairs_[k] : std::numeric_limits<double>::quiet_NaN();
    return e;
}

}  // namespace cover
