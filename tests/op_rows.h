// The harness that holds every row of every table to the float64 reference. An op's test states its inputs, its outputs
// and its shapes once; a new row is then tested without another line.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/shape.h"
#include "kernels/emulation/fiber_order.h"
#include "tests/support.h"

namespace cover::test {

// Every public op, in the order of the kernels' pages. `differentiable`: the graph needs a gradient of it.
struct PublicOp {
    const char* name;
    bool differentiable;
};
std::span<const PublicOp> public_ops();

// Names an op whose table is tested in this program; a test compares the names with public_ops().
struct RegisteredTable {
    explicit RegisteredTable(const char* op);
};
std::vector<std::string> registered_tables();

enum class Start {
    not_a_number,  // overwritten: an element that is not written is seen
    random,        // accumulated into or updated in place, from this start
};

// The type of an argument beside a row of dtype `row`: activation_type, real_type of core/dtype.h, or another.
using TypeOf = DType(DType row);
constexpr DType activation_type(DType row) { return row; }
constexpr DType float64_type(DType) { return DType::float64; }

struct Operand {
    Tensor values;  // any type; rounded to the argument's
    TypeOf* type = activation_type;
    // The row multiplies by these rounded to its dtype, and rounds them itself: the reference is given the rounded
    // ones.
    bool rounded_by_row = false;

    Operand(Tensor values_, TypeOf* type_ = activation_type, bool rounded_by_row_ = false)
        : values(std::move(values_)), type(type_), rounded_by_row(rounded_by_row_) {}
};
inline Operand real(Tensor values) { return {std::move(values), real_type}; }
inline Operand weights(Tensor values) { return {std::move(values), real_type, true}; }

struct Operands : std::vector<Operand> {
    using std::vector<Operand>::vector;
    Operands(const std::vector<Tensor>& activations) : std::vector<Operand>(activations.begin(), activations.end()) {}
};

struct OutputSpec {
    const char* name;
    std::int64_t count;
    double terms = 1;  // length of the longest sum behind one element
    double scale = 1;  // size of one element
    bool exact = false;
    Start start = Start::not_a_number;
    double low = -1, high = 1;  // of the random start
    TypeOf* type = activation_type;
    // Elements whose exact value is 0 (a derivative that cancels) have no relative error.
    bool relative = true;
    // Products in that sum, where `terms` also stands for what magnifies their rounding; 0: as many as terms.
    double products = 0;
};

using Outputs = std::span<const View>;
using Inputs = std::span<const ConstView>;

template <class Params, class Run>
struct RowTest {
    using Row = Variant<Params, Run>;

    const char* op;
    std::span<const Row> table;
    std::vector<Params> cases;
    std::function<Operands(const Params&)> inputs;
    std::function<std::vector<OutputSpec>(const Params&)> outputs;
    std::function<void(Run*, Outputs, Inputs, const Params&, Stream&)> call;
    std::function<std::string(const Params&)> describe;
    // What rows of a dtype and a Math owe that round on their way, from float64 inputs to float64 outputs. Null: the
    // row "ref".
    std::function<void(Outputs, Inputs, const Params&, DType, Math)> reference = nullptr;
};

// An input between two fences of NaN: a kernel that reads outside and uses what it finds gives itself away.
// `shift` moves the data by so many elements, off the alignment of the storage.
class FencedInput {
public:
    FencedInput(const Tensor& values, DType dtype, std::int64_t shift, Device device = Device::cpu);
    ConstView view() const { return data_.const_view(); }
    Tensor on_host() const { return data_.clone().to(Device::cpu); }

private:
    Tensor memory_, data_;
};

// In float64: ten bits of fraction, to nearest, ties away from zero.
Tensor rounded_to_tf32(const Tensor& values);
// The values of `start` rounded to `rounded` and stored in `stored`.
Tensor rounded_to(const Tensor& values, DType rounded, DType stored);
bool same_bits(ConstView a, ConstView b);
// The start of output `index`: random where the spec says so, else NaN.
Tensor start_of(const OutputSpec& spec, DType dtype, std::size_t index);
// Empty, or a sentence: the output differs, or its tolerance is so wide that it would hide a missing term.
std::string compare_output(const OutputSpec& spec, ConstView got, ConstView expected, DType row_dtype);

// The same for a vendor's row in bfloat16, which may round on its way (kernels/cuda/vendor/rows.cuh): to what the
// project promises of a bfloat16 output, 5e-3 of the whole.
std::string compare_rounded_twice(const OutputSpec& spec, ConstView got, ConstView expected);

// What the float64 reference says, from inputs and starts rounded as a row of `dtype` and `math` has them.
template <class Params, class Run>
std::vector<Tensor> expected_outputs(const RowTest<Params, Run>& test, const Params& params, const Operands& inputs,
                                     const std::vector<OutputSpec>& specs, DType dtype, Math math) {
    const Variant<Params, Run>* reference = nullptr;
    for (const auto& row : test.table)
        if (std::string(row.name) == "ref" && row.dtype == DType::float64) reference = &row;
    require(reference != nullptr, ErrorKind::internal, "[test] ", test.op, " has no float64 reference row");
    std::vector<Tensor> rounded, outputs;
    for (const Operand& input : inputs)
        rounded.push_back(rounded_to(input.values, input.rounded_by_row ? dtype : input.type(dtype), DType::float64));
    for (std::size_t i = 0; i < specs.size(); ++i)
        outputs.push_back(
            rounded_to(start_of(specs[i], specs[i].type(dtype), i), specs[i].type(dtype), DType::float64));
    std::vector<ConstView> in;
    std::vector<View> out;
    for (const Tensor& t : rounded) in.push_back(t.const_view());
    for (Tensor& t : outputs) out.push_back(t.view());
    if (test.reference)
        test.reference(out, in, params, dtype, math);
    else
        test.call(reference->run, out, in, params, cpu_stream(2));
    return outputs;
}

// The emulated device with the facts of a Hopper (compute capability 9.0), for rows that only run there; by its own it
// stands for an A100, so that what it prefers for a network stays fast enough to emulate.
Stream& emulated_hopper(int threads = 2);

// Where a row is tested: on its device, which for rows that the emulated one refuses is an emulated Hopper. Null where
// the machine has no such device.
template <class Row, class Params>
Stream* row_stream(const Row& row, const Params& params, int threads = 2) {
    Stream* const stream = device_stream(row.device, threads);
    const bool refused = stream && row.device == Device::emulated && !row.can_run(params, *stream->facts);
    return refused ? &emulated_hopper(threads) : stream;
}

// Runs one row on one case; empty when everything holds, otherwise a sentence: against the reference, no element left
// out, nothing written outside, inputs untouched, the same bits for 1, 2 and 3 threads (on the emulated device also the
// three orders of fibers) and for shifted inputs.
template <class Params, class Run>
std::string check_row(const RowTest<Params, Run>& test, const Variant<Params, Run>& row, const Params& params) {
    Operands inputs = test.inputs(params);
    // A row of TF32 rounds its operands; on operands that are rounded already it must be as good as any other.
    if (row.math == Math::tf32)
        for (Operand& input : inputs) input.values = rounded_to_tf32(input.values);
    const std::vector<OutputSpec> specs = test.outputs(params);
    const std::vector<Tensor> expected = expected_outputs(test, params, inputs, specs, row.dtype, row.math);
    std::vector<Tensor> first;
    for (const int threads : {2, 1, 3}) {
        std::vector<FencedInput> fenced;
        std::vector<ConstView> in;
        Stream* stream = row_stream(row, params, threads);
        // Rows of a device may count on 16 bytes, which every tensor of a step keeps.
        const std::int64_t shift = row.device == Device::cpu ? 1 : 16 / static_cast<std::int64_t>(size_of(row.dtype));
        require(stream != nullptr, ErrorKind::internal, "[test] ", name_of(row.device), " is not there");
        for (const Operand& input : inputs)
            fenced.emplace_back(input.values, input.type(row.dtype), threads == 3 ? shift : 0, row.device);
        for (const FencedInput& input : fenced) in.push_back(input.view());
        std::vector<Guarded> guarded;
        std::vector<View> out;
        guarded.reserve(specs.size());
        for (std::size_t i = 0; i < specs.size(); ++i) {
            guarded.emplace_back(specs[i].count, specs[i].type(row.dtype));
            guarded.back().copy_from(start_of(specs[i], specs[i].type(row.dtype), i).const_view());
            out.push_back(guarded.back().on(row.device));
        }
        const auto order = threads == 2   ? cuda::emulated::FiberOrder::forward
                           : threads == 1 ? cuda::emulated::FiberOrder::reversed
                                          : cuda::emulated::FiberOrder::random;
        const cuda::emulated::FiberOrderScope scope(order, 1);
        test.call(row.run, out, in, params, *stream);
        for (std::size_t i = 0; i < specs.size(); ++i) {
            guarded[i].fetch();
            out[i] = guarded[i].view();
        }
        for (std::size_t i = 0; i < inputs.size(); ++i)
            if (!same_bits(fenced[i].on_host().const_view(),
                           FencedInput(inputs[i].values, inputs[i].type(row.dtype), 0).view()))
                return text("input ", i, " was written to");
        for (std::size_t i = 0; i < specs.size(); ++i) {
            if (!guarded[i].intact()) return text(specs[i].name, ": wrote outside of its output");
            if (threads == 2) {
                const std::string sentence =
                    row.by_name_only && row.dtype == DType::bfloat16
                        ? compare_rounded_twice(specs[i], out[i], expected[i].const_view())
                        : compare_output(specs[i], out[i], expected[i].const_view(), row.dtype);
                if (!sentence.empty()) return sentence;
                Tensor kept = Tensor::empty({specs[i].count}, out[i].dtype);
                std::memcpy(kept.view().data, out[i].data, kept.bytes());
                first.push_back(kept);
            } else if (!same_bits(out[i], first[i].const_view())) {
                return text(specs[i].name, ": other bits for ", threads, " threads than for 2");
            }
        }
    }
    return {};
}

// What a run of the table tests is narrowed to, for sanitizers and checks of one device:
// COVER_TEST_DEVICE=cpu|emulated|cuda keeps the rows of one device, COVER_TEST_EVERY=N of each row's cases every N-th
// (and no row that is there by name only).
struct Narrowed {
    std::optional<Device> device;
    std::size_t stride = 1;
};
const Narrowed& narrowed();
// Whether the device is here and the tests are not narrowed to another.
bool is_tested(Device device);
// Every device of this machine that is not the CPU, the emulated one too.
std::vector<Device> devices();

// Every row that this machine can run, on every case that the row takes. A row that takes none of the cases on any
// machine is a failure; one that is there by name only may lack what it needs, and is then named with its reason.
template <class Params, class Run>
void check_table(const RowTest<Params, Run>& test) {
    DeviceFacts every_feature{
        .avx2 = true, .avx512 = true, .compute_capability = 90, .shared_memory_per_block = std::int64_t{1} << 20};
    bool any = false;
    std::size_t slow_rows = 0;
    std::string left_out;
    for (const auto& row : test.table) {
        if (!is_tested(row.device)) continue;
        if (narrowed().stride > 1 && row.by_name_only) continue;  // a vendor's kernels are not ours to sanitize
        bool reachable = false;
        // The emulation is slow, and so are the plans that a vendor's library makes for each shape: of a long list
        // every 17th case that the row takes, and with COVER_TEST_EVERY=N every 12 N + 1st (61st for 5, 277th for 23):
        // primes, so that the numbers of channels and kernels that alternate in it do not fall in step. Each row begins
        // at another. TF32 takes the emulation twice as long as bfloat16: of shorter lists every 5th.
        const bool slow = row.device == Device::emulated || row.by_name_only;
        std::size_t stride = narrowed().stride;
        if (slow && test.cases.size() > 300)
            stride = stride > 1 ? 12 * stride + 1 : 17;
        else if (row.device == Device::emulated && row.math == Math::tf32 && test.cases.size() > 60)
            stride = std::max<std::size_t>(stride, 5);
        std::size_t place = stride - slow_rows % stride;
        slow_rows += slow;
        for (const Params& params : test.cases) {
            reachable = reachable || row.can_run(params, every_feature);
            if (!row.can_run(params, *row_stream(row, params)->facts) || place++ % stride != 0) continue;
            any = true;
            const std::string sentence = check_row(test, row, params);
            const std::string where =
                sentence.empty() ? ""
                                 : text(test.op, ":", row.name, " (", name_of(row.dtype), ") ", test.describe(params));
            CHECK_MESSAGE(sentence.empty(), where, ": ", sentence);
        }
        if (!reachable && row.by_name_only && row.why_not)
            left_out += text(" ", row.name, " (", name_of(row.dtype), ", ", row.math == Math::tf32 ? "tf32" : "exact",
                             "): ", row.why_not(test.cases.front(), *device_stream(row.device)->facts), ".");
        else
            CHECK_MESSAGE((reachable || narrowed().stride > 1),
                          text(test.op, ":", row.name, " takes none of the test's shapes"));
    }
    if (!any) skip(text("no row of ", test.op, " runs on this machine"));
    if (!left_out.empty()) skip(text("these rows were not tested:", left_out));
}

// For tests that hand tensors of the host to every row: the CPU's rows and the emulation's. check_table() holds the
// rest.
template <class Row, class Params>
bool runs_on_host_memory(const Row& row, const Params& params) {
    if (row.device == Device::cuda) return false;
    return row.can_run(params, *device_stream(row.device)->facts);
}

// "2D 2 x (3, 5) "
std::string describe(std::int64_t n, const Grid& grid);

// Compares gradients of f with central differences along `count` random directions in double. `point` are the inputs,
// `gradients` their claimed gradients (empty tensor: not claimed). Empty when all agree to `tolerance` (relative).
std::string check_gradient(const std::function<double(const std::vector<Tensor>&)>& f, const std::vector<Tensor>& point,
                           const std::vector<Tensor>& gradients, double step = 1e-5, double tolerance = 1e-7);
// Sum of products, in double.
double dot(const Tensor& a, const Tensor& b);
// A float64 tensor with these values.
Tensor tensor_of(const std::vector<double>& values);
std::vector<double> values_of(const Tensor& t);

}  // namespace cover::test
