#include "cover/guard.h"

#include <algorithm>
#include <cmath>

namespace cover {
namespace {

template <class T>
bool finite_range(const T* data, std::int64_t count) {
    return std::all_of(data, data + count, [](T x) { return std::isfinite(static_cast<double>(x)); });
}

bool finite_range(const Tensor& t, std::int64_t offset, std::int64_t count) {
    if (t.dtype() == DType::float32) return finite_range(t.data<float>() + offset, count);
    if (t.dtype() == DType::float64) return finite_range(t.data<double>() + offset, count);
    return finite_range(t.slice(offset, {count}).converted(DType::float32), 0, count);
}

// Samples of a batch of `batch` pairs; an activation of both views has twice as many.
std::vector<std::int64_t> bad_samples(const Tensor& t, std::int64_t batch) {
    std::vector<std::int64_t> samples;
    if (t.shape().rank() != 5 || t.side(0) % batch != 0) return samples;
    const std::int64_t part = t.count() / t.side(0);
    for (std::int64_t n = 0; n < t.side(0); ++n)
        if (!finite_range(t, n * part, part)) samples.push_back(n % batch);
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

bool all_finite(const Tensor& tensor) { return finite_range(tensor, 0, tensor.count()); }

std::optional<NonFinite> find_non_finite(Model& model, const Views& views, LossTerms terms, Stream& stream) {
    ParameterSet& parameters = model.parameters();
    for (std::size_t i = 0; i < parameters.list().size(); ++i)
        if (!all_finite(parameters.value(static_cast<int>(i))))
            return NonFinite{"weight", parameters.list()[i].name, {}};
    const std::int64_t batch = views.field.side(0);
    if (!all_finite(views.images)) return NonFinite{"image", "", bad_samples(views.images, batch)};
    if (!all_finite(views.field)) return NonFinite{"true displacement", "", bad_samples(views.field, batch)};

    std::optional<NonFinite> found;
    forward_backward(model, views, terms, stream, [&](const Graph::Seen& seen) {
        if (found || all_finite(seen.tensor)) return;
        found = NonFinite{text(seen.gradient ? "gradient of the output of " : "output of ", seen.op),
                          layer_of(seen.layer), bad_samples(seen.tensor, batch)};
    });
    if (found) return found;
    for (std::size_t i = 0; i < parameters.list().size(); ++i)
        if (!all_finite(parameters.gradient(static_cast<int>(i))))
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
