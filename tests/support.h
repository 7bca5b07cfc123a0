// What every test file shares: skipping with a reason, guard bands, random contents and an honest comparison.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/rng.h"
#include "core/tensor.h"
#include "kernels/variant.h"

namespace cover::test {

// Marks the running test case as skipped; the caller returns afterwards. Printed and counted, never silent.
void skip(const std::string& reason);

// A folder under the system's temporary directory that is removed at the end of the scope.
class TemporaryFolder {
public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const std::string& path() const { return path_; }

private:
    std::string path_;
};

// A stream on the CPU with its own pool of `threads` threads, for the life of the program.
Stream& cpu_stream(int threads = 2);

// The same with kernels on `device`; null where this machine has none (then why_unavailable() says why).
Stream* device_stream(Device device, int threads = 2);

// An output buffer between two fences; intact() is false when a kernel wrote outside. The inside starts as NaN, so that
// an element that a kernel forgets to write is seen.
class Guarded {
public:
    Guarded(std::int64_t count, DType dtype);
    View view();
    ConstView view() const;
    void fill(double value);
    void copy_from(ConstView source);
    bool intact() const;

    // A copy of the whole on `device`, fences included: what a kernel writes to. fetch() brings it back.
    View on(Device device);
    void fetch();

private:
    static constexpr std::int64_t fence = 64;  // elements
    Tensor memory_, on_device_;
    std::int64_t count_;
};

// Uniform in [low, high), the same numbers for every dtype (rounded to it).
Tensor random_tensor(const Shape& shape, DType dtype, std::uint32_t stream, double low = -1, double high = 1);

// Element i as double.
double element(ConstView v, std::int64_t i);

// Empty when `got` equals `expected`; otherwise a sentence. A non-finite value is reported before anything is compared.
// Fails unless |got - expected| <= absolute + proportional * |expected| for every element and the relative 2-norm of
// the difference is <= relative.
std::string difference(ConstView got, ConstView expected, double absolute, double relative, double proportional = 0);

// Rounding bound of a sum of `terms` products of size about `scale` in the given type: c * eps * sqrt(terms) * scale.
double tolerance(DType dtype, double terms, double scale = 1.0);

}  // namespace cover::test
