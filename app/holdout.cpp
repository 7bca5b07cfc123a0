#include "app/holdout.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "app/pictures.h"
#include "core/check.h"
#include "core/rng.h"
#include "cover/views.h"

namespace cover::app {
namespace {

constexpr std::uint32_t holdout_epoch = 0xfffffffd;  // no run comes this far: its draws are its own
constexpr std::size_t most_heldout = 256;            // samples that are scored at a time

}  // namespace

Split split_by_subject(const PatchFile& patches, const TrainConfig& config) {
    std::map<std::string, std::vector<std::int64_t>> subjects;
    for (std::int64_t i = 0; i < patches.sample_count(); ++i) subjects[patches.subject(i)].push_back(i);
    std::vector<const std::vector<std::int64_t>*> order;
    for (const auto& [name, samples] : subjects) order.push_back(&samples);
    RandomStream random({.seed = config.seed, .purpose = Purpose::split});
    for (std::size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
    auto held = static_cast<std::size_t>(std::llround(config.holdout * static_cast<double>(order.size())));
    if (config.holdout > 0) held = std::max<std::size_t>(held, 1);
    require(held < order.size(), ErrorKind::configuration, "[config] holdout: ", config.holdout, " of ", order.size(),
            " subjects leaves none to train on");
    Split split;
    for (std::size_t i = 0; i < order.size(); ++i) {
        auto& side = i < held ? split.heldout : split.training;
        side.insert(side.end(), order[i]->begin(), order[i]->end());
    }
    std::sort(split.training.begin(), split.training.end());
    std::sort(split.heldout.begin(), split.heldout.end());
    return split;
}

StepResult heldout_losses(const Model& model, const TrainConfig& config, const PatchFile& patches,
                          std::vector<std::int64_t> samples, Stream& stream) {
    samples.resize(std::min(samples.size(), most_heldout));
    StepResult sum;
    double weight = 0;
    for (std::size_t from = 0; from < samples.size(); from += static_cast<std::size_t>(config.batch)) {
        const auto to = std::min(samples.size(), from + static_cast<std::size_t>(config.batch));
        const std::vector<std::int64_t> part(samples.begin() + static_cast<long>(from),
                                             samples.begin() + static_cast<long>(to));
        const Views views = make_views(read_images(patches, part), keys_of(part, holdout_epoch), config, stream);
        if (views.empty) continue;
        const StepResult result = evaluate_step(model, views, stream);
        const double pixels = views.valid * static_cast<double>(part.size());
        sum.loss_vec += pixels * result.loss_vec;
        sum.loss_con += pixels * result.loss_con;
        sum.loss_vec_zero += pixels * result.loss_vec_zero;
        weight += pixels;
    }
    if (weight > 0) {
        sum.loss_vec /= weight;
        sum.loss_con /= weight;
        sum.loss_vec_zero /= weight;
    }
    sum.loss = sum.loss_vec + sum.loss_con;
    return sum;
}

}  // namespace cover::app
