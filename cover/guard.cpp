#include "cover/guard.h"

#include <algorithm>
#include <cmath>

namespace cover {
namespace {

// Samples of a batch of `batch` pairs; an activation of both views has twice as many.
std::vector<std::int64_t> bad_samples(const Tensor& t, std::int64_t batch) {
    std::vector<std::int64_t> samples;
    if (t.shape().rank() != 5 || t.side(0) % batch != 0) return samples;
    const std::int64_t part = t.count() / t.side(0);
    for (std::int64_t n = 0; n < t.side(0); ++n)
        if (!t.slice(n * part, {part}).all_finite()) samples.push_back(n % batch);
    std::sort(samples.begin(), samples.end());
    samples.erase(std::unique(samples.begin(), samples.end()), samples.end());
    return samples;
}

std::string layer_of(const std::string& parameter) { return parameter.substr(0, parameter.rfind('.')); }

double median_of(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<long>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

}  // namespace

std::string NonFinite::place() const { return layer.empty() ? tensor : tensor + " in " + layer; }

std::optional<NonFinite> find_non_finite(Model& model, const Views& views, LossTerms terms, Stream& stream) {
    ParameterSet& parameters = model.parameters();
    for (std::size_t i = 0; i < parameters.list().size(); ++i)
        if (!parameters.value(static_cast<int>(i)).all_finite())
            return NonFinite{"weight", parameters.list()[i].name, {}};
    const std::int64_t batch = views.field.side(0);
    if (!views.images.all_finite()) return NonFinite{"image", "", bad_samples(views.images, batch)};
    if (!views.field.all_finite()) return NonFinite{"true displacement", "", bad_samples(views.field, batch)};

    std::optional<NonFinite> found;
    forward_backward(model, views, terms, stream, [&](const Graph::Seen& seen) {
        if (found || seen.tensor.all_finite()) return;
        found = NonFinite{text(seen.gradient ? "gradient of the output of " : "output of ", seen.op),
                          layer_of(seen.layer), bad_samples(seen.tensor, batch)};
    });
    if (found) return found;
    for (std::size_t i = 0; i < parameters.list().size(); ++i)
        if (!parameters.gradient(static_cast<int>(i)).all_finite())
            return NonFinite{"gradient of weight", parameters.list()[i].name, {}};
    return std::nullopt;
}

std::optional<SpreadMonitor::Outlier> SpreadMonitor::add(double value) {
    if (!std::isfinite(value)) return std::nullopt;
    std::optional<Outlier> outlier;
    if (4 * recent_.size() >= window_) {
        const double median = median_of({recent_.begin(), recent_.end()});
        std::vector<double> deviations;
        for (const double x : recent_) deviations.push_back(std::abs(x - median));
        const double spread = std::max(1.4826 * median_of(std::move(deviations)), 0.01 * std::abs(median));
        if (std::abs(value - median) > limit_ * spread) outlier = Outlier{median, spread};
    }
    recent_.push_back(value);
    if (recent_.size() > window_) recent_.pop_front();
    return outlier;
}

}  // namespace cover
