#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "core/rng.h"

namespace cover {
namespace {

double dot(const Tensor& a, const Tensor& b) {
    double sum = 0;
    for (std::int64_t i = 0; i < a.count(); ++i) sum += a.data<double>()[i] * b.data<double>()[i];
    return sum;
}

}  // namespace

std::string gradcheck(const GradcheckFunction& function, const std::vector<Tensor>& inputs, Stream& stream,
                      const GradcheckOptions& options) {
    std::vector<Tensor> gradients;
    Graph graph(stream, options.spatial_dims);
    std::vector<Var> vars;
    for (const Tensor& input : inputs) {
        gradients.push_back(Tensor::zeros(input.shape(), DType::float64));
        vars.push_back(graph.leaf(input, gradients.back()));
    }
    const Var output = function(graph, vars);
    if (!output.wants_gradient()) return "the output does not depend on any input";
    Tensor cotangent = Tensor::empty(output.shape(), DType::float64);
    RandomStream random({.seed = 99});
    for (std::int64_t i = 0; i < cotangent.count(); ++i) cotangent.data<double>()[i] = random.uniform(-1, 1);
    graph.backward(output, cotangent.clone());

    const auto evaluate = [&](const std::vector<Tensor>& at) {
        Graph values(stream, options.spatial_dims, Graph::Retention::nothing);
        std::vector<Var> constants;
        for (const Tensor& t : at) constants.push_back(values.constant(t));
        return dot(values.value(function(values, constants)), cotangent);
    };
    for (std::size_t which = 0; which < inputs.size(); ++which) {
        const std::int64_t count = inputs[which].count();
        const double* analytic = gradients[which].data<double>();
        double largest = 0;
        for (std::int64_t i = 0; i < count; ++i) {
            if (!std::isfinite(analytic[i])) return text("input ", which, ": derivative ", i, " is not finite");
            largest = std::max(largest, std::abs(analytic[i]));
        }
        if (largest == 0) return text("input ", which, ": every derivative is zero");
        const std::int64_t checks = std::min(count, options.elements);
        for (std::int64_t check = 0; check < checks; ++check) {
            const std::int64_t i = check * count / checks;
            std::vector<Tensor> shifted = inputs;
            shifted[which] = inputs[which].clone();
            double& value = shifted[which].data<double>()[i];
            const double centre = value;
            value = centre + options.step;
            const double up = evaluate(shifted);
            value = centre - options.step;
            const double down = evaluate(shifted);
            const double numeric = (up - down) / (2 * options.step);
            if (!(std::abs(numeric - analytic[i]) <= options.tolerance * std::max(1.0, largest)))
                return text("input ", which, " element ", i, " of ", count, ": derivative ", analytic[i],
                            ", central difference ", numeric);
        }
    }
    return {};
}

}  // namespace cover
