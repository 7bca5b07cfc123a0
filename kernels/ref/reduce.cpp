#include "kernels/reduce.h"

#include <algorithm>

namespace cover::ref {
namespace {

constexpr std::int64_t block = 4096;

template <class T>
void run(View sum, ConstView x_view, const ReduceParams& p, Stream&) {
    const T* x = x_view.as<T>();
    double total = 0;
    for (std::int64_t first = 0; first < p.count; first += block) {
        double partial = 0;
        for (std::int64_t i = first; i < std::min(first + block, p.count); ++i)
            partial += static_cast<double>(x[i]) * static_cast<double>(x[i]);
        total += partial;
    }
    *sum.as<double>() = total;
}

}  // namespace

std::span<const SumOfSquaresVariant> sum_of_squares_rows() {
    static constexpr SumOfSquaresVariant rows[] = {
        {"ref", Device::cpu, DType::float32, Math::exact, always<ReduceParams>, run<float>},
        {"ref", Device::cpu, DType::float64, Math::exact, always<ReduceParams>, run<double>}};
    return rows;
}

}  // namespace cover::ref
