#include "tests/support.h"

#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>

#include "kernels/devices.h"

namespace cover::test {

TemporaryFolder::TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "cover-test-XXXXXX").string();
    require(mkdtemp(pattern.data()) != nullptr, ErrorKind::io, "[test] cannot make a folder ", pattern);
    path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

Stream& cpu_stream(int threads) {
    static std::map<int, std::pair<std::unique_ptr<ThreadPool>, Stream>> streams;
    auto& [pool, stream] = streams[threads];
    if (!pool) {
        pool = std::make_unique<ThreadPool>(threads);
        stream.pool = pool.get();
    }
    return stream;
}

Stream* device_stream(Device device, int threads) {
    static std::map<std::pair<Device, int>, std::optional<Stream>> streams;
    const auto [at, fresh] = streams.try_emplace({device, threads});
    if (fresh && why_unavailable(device).empty()) at->second = open_stream(device, *cpu_stream(threads).pool);
    return at->second ? &*at->second : nullptr;
}

Guarded::Guarded(std::int64_t count, DType dtype) : memory_(Tensor::empty({count + 2 * fence}, dtype)), count_(count) {
    std::memset(memory_.view().data, 0xA5, memory_.bytes());
    fill(std::numeric_limits<double>::quiet_NaN());
}

View Guarded::view() { return memory_.slice(fence, {count_}).view(); }
ConstView Guarded::view() const { return memory_.slice(fence, {count_}).const_view(); }
void Guarded::fill(double value) { memory_.slice(fence, {count_}).fill(value); }

void Guarded::copy_from(ConstView source) {
    require(source.dtype == memory_.dtype() && source.count == count_, ErrorKind::internal,
            "[test] copy of another size");
    std::memcpy(view().data, source.data, static_cast<std::size_t>(count_) * size_of(source.dtype));
}

View Guarded::on(Device device) {
    on_device_ = memory_.to(device);
    return on_device_.slice(fence, {count_}).view();
}

void Guarded::fetch() { memory_.copy_from(on_device_); }

bool Guarded::intact() const {
    const auto* bytes = static_cast<const unsigned char*>(memory_.view().data);
    const std::size_t band = static_cast<std::size_t>(fence) * size_of(memory_.dtype());
    for (std::size_t i = 0; i < band; ++i)
        if (bytes[i] != 0xA5 || bytes[memory_.bytes() - 1 - i] != 0xA5) return false;
    return true;
}

Tensor random_tensor(const Shape& shape, DType dtype, std::uint32_t stream, double low, double high) {
    Tensor t = Tensor::empty(shape, DType::float64);
    RandomStream random({.seed = 1234, .sample = stream});
    double* data = t.data<double>();
    for (std::int64_t i = 0; i < t.count(); ++i) data[i] = random.uniform(low, high);
    // Every type starts from the float32 value, so that float and double rows see the same numbers.
    return t.converted(DType::float32).converted(dtype);
}

double element(ConstView v, std::int64_t i) {
    switch (v.dtype) {
    case DType::float32: return static_cast<const float*>(v.data)[i];
    case DType::float64: return static_cast<const double*>(v.data)[i];
    case DType::bfloat16: return static_cast<float>(static_cast<const bfloat16*>(v.data)[i]);
    }
    return 0;
}

std::string difference(ConstView got, ConstView expected, double absolute, double relative, double proportional) {
    if (got.count != expected.count) return text("got ", got.count, " elements, expected ", expected.count);
    for (std::int64_t i = 0; i < got.count; ++i) {
        if (!std::isfinite(element(expected, i))) return text("the expected value at ", i, " is not finite");
        if (!std::isfinite(element(got, i))) return text("element ", i, " of ", got.count, " is not finite");
    }
    double error2 = 0, norm2 = 0, worst = 0, excess = -std::numeric_limits<double>::infinity();
    std::int64_t where = 0;
    for (std::int64_t i = 0; i < got.count; ++i) {
        const double e = element(expected, i), d = std::abs(element(got, i) - e);
        error2 += d * d;
        norm2 += e * e;
        const double allowed = absolute + proportional * std::abs(e);
        if (d - allowed > excess) {
            excess = d - allowed;
            worst = d;
            where = i;
        }
    }
    const double ratio = std::sqrt(error2) / std::max(std::sqrt(norm2), 1e-30);
    if (!(excess <= 0))
        return text("element ", where, " is ", element(got, where), ", expected ", element(expected, where),
                    ": off by ", worst, ", allowed ", worst - excess, " (relative 2-norm ", ratio, ")");
    if (error2 > 0 && !(ratio <= relative)) return text("relative 2-norm ", ratio, ", allowed ", relative);
    return {};
}

double tolerance(DType dtype, double terms, double scale) {
    const double epsilon = dtype == DType::float64 ? 0x1p-53 : dtype == DType::float32 ? 0x1p-24 : 0x1p-8;
    return 8 * epsilon * std::sqrt(terms) * scale;
}

}  // namespace cover::test
