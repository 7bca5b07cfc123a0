#include "cover/principal_components.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"

namespace cover {
namespace {

constexpr int most_sweeps = 60;  // convergence is quadratic: ten or so are taken

bool all_finite(const float* row, std::int64_t channels) {
    for (std::int64_t c = 0; c < channels; ++c)
        if (!std::isfinite(row[c])) return false;
    return true;
}

}  // namespace

void symmetric_eigen(std::int64_t n, const std::vector<double>& matrix, std::vector<double>& values,
                     std::vector<double>& vectors) {
    const auto side = static_cast<std::size_t>(n);
    require(matrix.size() == side * side, ErrorKind::internal, "[components] a matrix of ", matrix.size(),
            " entries is no ", n, " x ", n, " one");
    std::vector<double> a(side * side), v(side * side, 0.0);
    double norm = 0;
    for (std::size_t i = 0; i < side; ++i) {
        v[i * side + i] = 1;
        for (std::size_t j = 0; j < side; ++j) {
            a[i * side + j] = matrix[std::min(i, j) * side + std::max(i, j)];
            norm += a[i * side + j] * a[i * side + j];
        }
    }
    for (int sweep = 0; sweep < most_sweeps; ++sweep) {
        double off = 0;
        for (std::size_t p = 0; p < side; ++p)
            for (std::size_t q = p + 1; q < side; ++q) off += a[p * side + q] * a[p * side + q];
        if (!(off > 1e-30 * norm)) break;
        for (std::size_t p = 0; p < side; ++p)
            for (std::size_t q = p + 1; q < side; ++q) {
                const double apq = a[p * side + q];
                if (apq == 0) continue;
                const double theta = (a[q * side + q] - a[p * side + p]) / (2 * apq);
                const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
                const double c = 1 / std::sqrt(t * t + 1), s = t * c;
                double *row_p = &a[p * side], *row_q = &a[q * side];
                for (std::size_t k = 0; k < side; ++k) {
                    if (k == p || k == q) continue;
                    const double x = row_p[k], y = row_q[k];
                    row_p[k] = a[k * side + p] = c * x - s * y;
                    row_q[k] = a[k * side + q] = s * x + c * y;
                }
                row_p[p] -= t * apq;
                row_q[q] += t * apq;
                row_p[q] = row_q[p] = 0;
                for (std::size_t k = 0; k < side; ++k) {
                    const double x = v[p * side + k], y = v[q * side + k];
                    v[p * side + k] = c * x - s * y;
                    v[q * side + k] = s * x + c * y;
                }
            }
    }
    std::vector<std::size_t> order(side);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t i, std::size_t j) { return a[i * side + i] > a[j * side + j]; });
    values.resize(side);
    vectors.resize(side * side);
    for (std::size_t i = 0; i < side; ++i) {
        values[i] = a[order[i] * side + order[i]];
        std::copy_n(&v[order[i] * side], side, &vectors[i * side]);
    }
}

double PrincipalComponents::share(std::int64_t component) const {
    return total_variance > 0 ? variance[static_cast<std::size_t>(component)] / total_variance : 0;
}

double PrincipalComponents::project(const float* feature, std::int64_t component) const {
    const double* axis = &axes[static_cast<std::size_t>(component * channels)];
    double sum = 0;
    for (std::int64_t c = 0; c < channels; ++c) sum += axis[c] * (feature[c] - mean[static_cast<std::size_t>(c)]);
    return sum;
}

ComponentAnalysis::ComponentAnalysis(std::int64_t channels)
    : channels_(channels),
      origin_(static_cast<std::size_t>(channels)),
      sum_(static_cast<std::size_t>(channels)),
      products_(static_cast<std::size_t>(channels * channels)) {
    require(channels >= 1, ErrorKind::internal, "[components] features of ", channels, " channels");
}

void ComponentAnalysis::add(const float* rows, std::int64_t count) {
    std::vector<double> centred(static_cast<std::size_t>(channels_));
    for (std::int64_t i = 0; i < count; ++i) {
        const float* row = rows + i * channels_;
        if (!all_finite(row, channels_)) continue;
        if (rows_++ == 0) std::copy_n(row, channels_, origin_.begin());
        for (std::size_t c = 0; c < centred.size(); ++c) {
            centred[c] = row[c] - origin_[c];
            sum_[c] += centred[c];
        }
        for (std::size_t c = 0; c < centred.size(); ++c) {
            double* line = &products_[c * centred.size()];
            for (std::size_t k = c; k < centred.size(); ++k) line[k] += centred[c] * centred[k];
        }
    }
}

PrincipalComponents ComponentAnalysis::result(std::int64_t components) const {
    const auto side = static_cast<std::size_t>(channels_);
    const double rows = static_cast<double>(std::max<std::int64_t>(rows_, 1));
    PrincipalComponents out{.channels = channels_, .mean = origin_, .axes = {}, .variance = {}, .total_variance = 0};
    std::vector<double> covariance(side * side), values, vectors;
    for (std::size_t i = 0; i < side; ++i) {
        out.mean[i] += sum_[i] / rows;
        for (std::size_t j = i; j < side; ++j)
            covariance[i * side + j] = products_[i * side + j] / rows - sum_[i] / rows * (sum_[j] / rows);
        out.total_variance += std::max(covariance[i * side + i], 0.0);
    }
    symmetric_eigen(channels_, covariance, values, vectors);
    for (std::size_t k = 0; k < std::min(side, static_cast<std::size_t>(std::max<std::int64_t>(components, 0))); ++k) {
        const double* axis = &vectors[k * side];
        std::size_t largest = 0;
        for (std::size_t c = 1; c < side; ++c)
            if (std::abs(axis[c]) > std::abs(axis[largest])) largest = c;
        const double sign = axis[largest] < 0 ? -1 : 1;
        for (std::size_t c = 0; c < side; ++c) out.axes.push_back(sign * axis[c]);
        out.variance.push_back(std::max(values[k], 0.0));
    }
    return out;
}

void component_colours(const PrincipalComponents& components, const float* rows, std::int64_t count, unsigned char* rgb,
                       double deviations) {
    for (std::int64_t i = 0; i < count; ++i) {
        const float* row = rows + i * components.channels;
        const bool finite = all_finite(row, components.channels);
        for (std::int64_t k = 0; k < 3; ++k) {
            double value = 0.5;
            if (k < components.count() && components.share(k) > 1e-10)
                value += 0.5 * components.project(row, k) /
                         (deviations * std::sqrt(components.variance[static_cast<std::size_t>(k)]));
            rgb[3 * i + k] = finite ? static_cast<unsigned char>(std::lround(255 * std::clamp(value, 0.0, 1.0))) : 0;
        }
    }
}

}  // namespace cover
