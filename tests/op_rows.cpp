#include "tests/op_rows.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace cover::test {
namespace {

constexpr PublicOp ops[] = {
    {"conv", true},
    {"conv_backward_data", false},
    {"conv_backward_weight", false},
    {"fused_conv", true},
    {"fused_conv_backward_data", false},
    {"fused_conv_backward_weight", false},
    {"group_norm", true},
    {"group_norm_statistics", false},
    {"group_norm_apply", false},
    {"group_norm_backward", false},
    {"max_pool", true},
    {"max_pool_backward", false},
    {"upsample", true},
    {"upsample_backward", false},
    {"warp", true},
    {"warp_backward", false},
    {"local_attention", true},
    {"local_attention_backward", false},
    {"masked_l1", true},
    {"masked_l1_backward", false},
    {"masked_cosine", true},
    {"masked_cosine_backward", false},
    {"add", true},
    {"scale", true},
    {"cast", true},
    {"concat", true},
    {"split", true},
    {"sum_of_squares", false},
    {"optimizer_factors", false},
    {"adam", false},
    {"sgd", false},
    {"cut_views", false},
    {"uniform_noise", false},
    {"add_noise", false},
    {"gaussian_blur", false},
    {"change_contrast", false},
    {"fill_blocks", false},
};

std::vector<std::string>& tables() {
    static std::vector<std::string> names;
    return names;
}

}  // namespace

std::span<const PublicOp> public_ops() { return ops; }

RegisteredTable::RegisteredTable(const char* op) { tables().push_back(op); }
std::vector<std::string> registered_tables() { return tables(); }

const Narrowed& narrowed() {
    static const Narrowed instance = [] {
        Narrowed n;
        if (const char* name = std::getenv("COVER_TEST_DEVICE")) {
            for (const Device device : {Device::cpu, Device::emulated, Device::cuda})
                if (std::string(name) == name_of(device)) n.device = device;
            require(n.device.has_value(), ErrorKind::configuration, "[test] COVER_TEST_DEVICE is '", name,
                    "'; take cpu, emulated or cuda");
        }
        if (const char* every = std::getenv("COVER_TEST_EVERY")) {
            n.stride = static_cast<std::size_t>(std::max(0L, std::strtol(every, nullptr, 10)));
            require(n.stride > 0, ErrorKind::configuration, "[test] COVER_TEST_EVERY is '", every,
                    "'; take a whole number above 0");
        }
        return n;
    }();
    return instance;
}

Stream& emulated_hopper(int threads) {
    static const DeviceFacts facts = [] {
        DeviceFacts of = *device_stream(Device::emulated)->facts;
        of.compute_capability = 90;
        of.shared_memory_per_block = 227 * 1024;
        return of;
    }();
    static std::map<int, Stream> streams;
    Stream& stream = streams.try_emplace(threads, *device_stream(Device::emulated, threads)).first->second;
    stream.facts = &facts;
    return stream;
}

bool is_tested(Device device) { return device_stream(device) && narrowed().device.value_or(device) == device; }

std::vector<Device> devices() {
    std::vector<Device> found;
    for (const Device device : {Device::emulated, Device::cuda})
        if (is_tested(device)) found.push_back(device);
    return found;
}

FencedInput::FencedInput(const Tensor& values, DType dtype, std::int64_t shift, Device device) {
    constexpr std::int64_t fence = 64;
    memory_ = Tensor::empty({values.count() + 2 * fence + shift}, dtype);
    memory_.fill(std::numeric_limits<double>::quiet_NaN());
    data_ = memory_.slice(fence + shift, {values.count()});
    const Tensor converted = rounded_to(values, dtype, dtype);
    std::memcpy(data_.view().data, converted.const_view().data, converted.bytes());
    if (device == Device::cpu) return;
    memory_ = memory_.to(device);
    data_ = memory_.slice(fence + shift, {values.count()});
}

Tensor rounded_to(const Tensor& values, DType rounded, DType stored) {
    // Everything starts from float32, so that float32 and float64 rows see the same numbers.
    return values.converted(DType::float32).converted(rounded).converted(stored);
}

Tensor rounded_to_tf32(const Tensor& values) {
    Tensor out = values.converted(DType::float32);
    for (std::int64_t i = 0; i < out.count(); ++i) {
        const auto bits = std::bit_cast<std::uint32_t>(out.data<float>()[i]);
        out.data<float>()[i] = std::bit_cast<float>((bits + 0x1000u) & ~0x1fffu);
    }
    return out.converted(DType::float64);
}

bool same_bits(ConstView a, ConstView b) {
    return a.count == b.count && a.dtype == b.dtype &&
           std::memcmp(a.data, b.data, static_cast<std::size_t>(a.count) * size_of(a.dtype)) == 0;
}

Tensor start_of(const OutputSpec& spec, DType dtype, std::size_t index) {
    if (spec.start == Start::random)
        return random_tensor({spec.count}, dtype, 900 + static_cast<std::uint32_t>(index), spec.low, spec.high);
    Tensor t = Tensor::empty({spec.count}, dtype);
    t.fill(std::numeric_limits<double>::quiet_NaN());
    return t;
}

std::string compare_output(const OutputSpec& spec, ConstView got, ConstView expected, DType row_dtype) {
    const DType stored = spec.type(row_dtype);
    const auto named = [&](const std::string& sentence) {
        return sentence.empty() ? sentence : text(spec.name, ": ", sentence);
    };
    if (spec.exact) {
        Tensor exact = Tensor::empty({expected.count}, DType::float64);
        std::memcpy(exact.view().data, expected.data, exact.bytes());
        return named(difference(got, exact.converted(stored).const_view(), 0, 0));
    }
    // Sums are taken in the real type and rounded once, on store: of a bfloat16 value by half of its last place. The
    // whole stays within what the project promises of a row: 1e-5, and with bfloat16 operands 5e-3, or 1e-4 where it
    // stores float32.
    const double sums = tolerance(real_type(stored), spec.terms), store = stored == DType::bfloat16 ? 0x1p-8 : 0;
    const double promised = stored == DType::bfloat16 ? 5e-3 : row_dtype == DType::bfloat16 ? 1e-4 : 1e-5;
    const double relative = std::min(sums + store, promised);
    // One of so many products has the size scale / sqrt(products); ten times the tolerance must lie below. What is
    // stored in bfloat16 shows a product that is missing everywhere, as it stands out from the rounding of all elements
    // together.
    const double margin = stored == DType::bfloat16 ? 2 : 10;
    const double products = spec.products > 0 ? spec.products : spec.terms;
    if (!(margin * relative * std::sqrt(products) <= 1))
        return text(spec.name, ": the tolerance for ", products, " terms would hide a missing one");
    return named(difference(got, expected, std::min(sums, promised) * spec.scale,
                            spec.relative ? relative : std::numeric_limits<double>::infinity(), store));
}

std::string compare_rounded_twice(const OutputSpec& spec, ConstView got, ConstView expected) {
    const std::string sentence = difference(got, expected, 0x1p-6 * spec.scale, 5e-3);
    return sentence.empty() ? sentence : text(spec.name, ": ", sentence);
}

std::string describe(std::int64_t n, const Grid& grid) {
    return grid.spatial_dims == 2 ? text("2D ", n, " x (", grid.h, ", ", grid.w, ")")
                                  : text("3D ", n, " x (", grid.d, ", ", grid.h, ", ", grid.w, ")");
}

double dot(const Tensor& a, const Tensor& b) {
    require(a.count() == b.count(), ErrorKind::internal, "[test] dot of ", a.count(), " and ", b.count(), " elements");
    double sum = 0;
    for (std::int64_t i = 0; i < a.count(); ++i) sum += element(a.view(), i) * element(b.view(), i);
    return sum;
}

std::string check_gradient(const std::function<double(const std::vector<Tensor>&)>& f, const std::vector<Tensor>& point,
                           const std::vector<Tensor>& gradients, double step, double tolerance_) {
    for (std::size_t input = 0; input < point.size(); ++input) {
        if (!gradients[input].defined()) continue;
        for (std::uint32_t direction_index = 0; direction_index < 4; ++direction_index) {
            const Tensor direction = random_tensor(point[input].shape(), DType::float64,
                                                   700 + direction_index + 10 * static_cast<std::uint32_t>(input));
            double ends[2] = {};
            for (int end = 0; end < 2; ++end) {
                std::vector<Tensor> moved = point;
                moved[input] = point[input].clone();
                for (std::int64_t i = 0; i < direction.count(); ++i)
                    moved[input].data<double>()[i] += (end ? step : -step) * direction.data<double>()[i];
                ends[end] = f(moved);
            }
            const double numerical = (ends[1] - ends[0]) / (2 * step);
            const double claimed = dot(gradients[input], direction);
            // |gradient| |direction| is the size that the product may have.
            const double size = std::sqrt(dot(gradients[input], gradients[input]) * dot(direction, direction));
            if (!(std::abs(numerical - claimed) <= tolerance_ * std::max(size, 1e-3)))
                return text("input ", input, ": claimed ", claimed, ", differences say ", numerical);
        }
    }
    return {};
}

Tensor tensor_of(const std::vector<double>& values) {
    Tensor t = Tensor::empty({static_cast<std::int64_t>(values.size())}, DType::float64);
    std::copy(values.begin(), values.end(), t.data<double>());
    return t;
}

std::vector<double> values_of(const Tensor& t) {
    std::vector<double> out;
    for (std::int64_t i = 0; i < t.count(); ++i) out.push_back(element(t.view(), i));
    return out;
}

}  // namespace cover::test
