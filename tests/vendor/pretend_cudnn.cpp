// A stand-in for libcudnn.so.9 on machines with no GPU: it takes the descriptors of one convolution as cuDNN does,
// refuses what is incomplete, offers engines of every kind and computes on the host, by strides, in double.
#include <cudnn.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/dtype.h"

namespace {

struct Descriptor {
    cudnnBackendDescriptorType_t type;
    bool finalized = false;
    std::map<int, std::vector<char>> values;

    template <class T>
    std::vector<T> get(int attribute) const {
        const auto at = values.find(attribute);
        if (at == values.end()) return {};
        std::vector<T> out(at->second.size() / sizeof(T));
        std::memcpy(out.data(), at->second.data(), out.size() * sizeof(T));
        return out;
    }
    template <class T>
    T one(int attribute) const {
        const auto all = get<T>(attribute);
        return all.empty() ? T{} : all.front();
    }
    const Descriptor* other(int attribute) const { return one<const Descriptor*>(attribute); }
    template <class T>
    void put(int attribute, T value) {
        values[attribute].assign(reinterpret_cast<const char*>(&value), reinterpret_cast<const char*>(&value + 1));
    }
};

Descriptor* of(cudnnBackendDescriptor_t raw) { return static_cast<Descriptor*>(raw); }

constexpr int engine_number = 9000;  // of our own attributes: which engine a configuration stands for

struct Engine {
    std::vector<cudnnBackendNumericalNote_t> notes;
    int microseconds = 0;
    enum class Fault { none, never_to_run, no_plan, huge, fails } fault = Fault::none;
};

const std::map<std::int64_t, Engine>& engines() {
    using Fault = Engine::Fault;
    static const std::map<std::int64_t, Engine> all{
        {1, {{CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC}, 0, Fault::never_to_run}},
        {2, {{CUDNN_NUMERICAL_NOTE_TENSOR_CORE}, 0}},
        {3, {{}, 2000}},
        {4, {{CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP}, 400}},
        {5, {{CUDNN_NUMERICAL_NOTE_WINOGRAD, CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4}, 0, Fault::never_to_run}},
        {6, {{CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS}, 0, Fault::never_to_run}},
        {7, {{}, 0, Fault::no_plan}},
        {8, {{}, 0, Fault::huge}},
        {9, {{}, 0, Fault::fails}}};
    return all;
}

struct Names {
    int x, weight, y, convolution, alpha, beta;
};

Names names_of(cudnnBackendDescriptorType_t type) {
    if (type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,     CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    if (type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR)
        return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    return {CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,     CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,    CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

bool is_operation(cudnnBackendDescriptorType_t type) {
    return type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR ||
           type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR ||
           type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR;
}

using Sides = std::vector<std::int64_t>;

struct Tensor {
    Sides sides, strides;
    cudnnDataType_t type;
    std::int64_t id, alignment;

    explicit Tensor(const Descriptor& d)
        : sides(d.get<std::int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS)),
          strides(d.get<std::int64_t>(CUDNN_ATTR_TENSOR_STRIDES)),
          type(d.one<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE)),
          id(d.one<std::int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)),
          alignment(d.one<std::int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT)) {}
    std::int64_t at(const Sides& index) const {
        std::int64_t offset = 0;
        for (std::size_t axis = 0; axis < sides.size(); ++axis) offset += index[axis] * strides[axis];
        return offset;
    }
    std::int64_t count() const {
        std::int64_t all = 1;
        for (const std::int64_t side : sides) all *= side;
        return all;
    }
    // The element at `offset` is one of count() that lie without a gap: channels last.
    double read(const void* data, std::int64_t offset) const {
        return type == CUDNN_DATA_BFLOAT16 ? static_cast<float>(static_cast<const cover::bfloat16*>(data)[offset])
                                           : static_cast<const float*>(data)[offset];
    }
    void write(void* data, std::int64_t offset, double value) const {
        if (type == CUDNN_DATA_BFLOAT16)
            static_cast<cover::bfloat16*>(data)[offset] = cover::bfloat16(static_cast<float>(value));
        else
            static_cast<float*>(data)[offset] = static_cast<float>(value);
    }
};

// Counts through all indices below `sides`; false at the end.
bool next(Sides& index, const Sides& sides) {
    for (std::size_t axis = sides.size(); axis-- > 0;) {
        if (++index[axis] < sides[axis]) return true;
        index[axis] = 0;
    }
    return false;
}

bool complete(const Descriptor& d) {
    const auto filled = [&](std::initializer_list<int> attributes) {
        for (const int attribute : attributes)
            if (!d.values.contains(attribute)) return false;
        return true;
    };
    switch (d.type) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: {
        if (!filled({CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT,
                     CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_STRIDES}))
            return false;
        const Tensor tensor(d);
        Sides last;
        for (const std::int64_t side : tensor.sides) last.push_back(side - 1);
        return tensor.sides.size() == tensor.strides.size() && tensor.strides[1] == 1 &&
               tensor.at(last) == tensor.count() - 1;
    }
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: {
        if (!filled({CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_ATTR_CONVOLUTION_CONV_MODE,
                     CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS}))
            return false;
        const auto axes = static_cast<std::size_t>(d.one<std::int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS));
        for (const int attribute : {CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS,
                                    CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES})
            if (d.get<std::int64_t>(attribute).size() != axes) return false;
        return d.one<cudnnConvolutionMode_t>(CUDNN_ATTR_CONVOLUTION_CONV_MODE) == CUDNN_CROSS_CORRELATION &&
               d.one<cudnnDataType_t>(CUDNN_ATTR_CONVOLUTION_COMP_TYPE) == CUDNN_DATA_FLOAT;
    }
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        return filled({CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_ATTR_OPERATIONGRAPH_HANDLE});
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        return filled({CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_ATTR_ENGINEHEUR_MODE});
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        return filled({CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG});
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR:
        return filled({CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS,
                       CUDNN_ATTR_VARIANT_PACK_WORKSPACE});
    default: break;
    }
    if (!is_operation(d.type)) return false;
    const Names names = names_of(d.type);
    if (!filled({names.x, names.weight, names.y, names.convolution, names.alpha, names.beta})) return false;
    const Tensor x(*d.other(names.x)), weight(*d.other(names.weight)), y(*d.other(names.y));
    const Descriptor& convolution = *d.other(names.convolution);
    if (x.sides.size() != weight.sides.size() || y.sides.size() != x.sides.size() ||
        static_cast<std::int64_t>(x.sides.size()) !=
            convolution.one<std::int64_t>(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) + 2)
        return false;
    const auto pre = convolution.get<std::int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS),
               post = convolution.get<std::int64_t>(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
    for (std::size_t axis = 2; axis < x.sides.size(); ++axis)
        if (y.sides[axis] != x.sides[axis] + pre[axis - 2] + post[axis - 2] - weight.sides[axis] + 1) return false;
    return x.sides[0] == y.sides[0] && x.sides[1] == weight.sides[1] && y.sides[1] == weight.sides[0] &&
           x.type == y.type && d.one<float>(names.alpha) == 1 && d.one<float>(names.beta) == 0;
}

// Which engines the heuristic offers for an operation. Few channels play the shapes that nothing serves.
std::vector<std::int64_t> offered(const Descriptor& graph, cudnnBackendHeurMode_t mode) {
    const Descriptor& operation = *graph.other(CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const Names names = names_of(operation.type);
    const Tensor x(*operation.other(names.x)), weight(*operation.other(names.weight));
    if (x.sides[1] == 2) return {1};
    // Not every engine sums into another type than it reads.
    if (weight.type != x.type && weight.sides[0] % 8 != 0) return {};
    if (x.sides[1] == 1)
        return mode == CUDNN_HEUR_MODE_FALLBACK ? std::vector<std::int64_t>{1, 4} : std::vector<std::int64_t>{1};
    if (mode != CUDNN_HEUR_MODE_A) return {3};
    std::vector<std::int64_t> all;
    for (const auto& [number, engine] : engines()) all.push_back(number);
    return all;
}

cudnnStatus_t carry_out(const Descriptor& operation, const Descriptor& pack, bool spoil) {
    const Names names = names_of(operation.type);
    const Tensor x(*operation.other(names.x)), weight(*operation.other(names.weight)), y(*operation.other(names.y));
    std::map<std::int64_t, void*> pointers;
    const auto ids = pack.get<std::int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    const auto given = pack.get<void*>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (std::size_t i = 0; i < ids.size(); ++i) pointers[ids[i]] = given[i];
    for (const Tensor* tensor : {&x, &weight, &y})
        if (!pointers[tensor->id] ||
            reinterpret_cast<std::uintptr_t>(pointers[tensor->id]) % static_cast<std::uintptr_t>(tensor->alignment) !=
                0)
            return CUDNN_STATUS_BAD_PARAM;
    const auto pre = operation.other(names.convolution)->get<std::int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    const bool forward = operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
               data = operation.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR;
    const Tensor& out = forward ? y : data ? x : weight;
    std::vector<double> sums(static_cast<std::size_t>(out.count()));
    if (spoil) {
        for (std::int64_t i = 0; i < out.count(); ++i) out.write(pointers[out.id], i, std::nan(""));
        return CUDNN_STATUS_SUCCESS;
    }
    const Sides taps(weight.sides.begin() + 2, weight.sides.end());
    Sides at(y.sides.size(), 0);
    do {  // every element of y, every tap, every input channel
        Sides tap(taps.size(), 0);
        do {
            Sides from{at[0], 0}, by{at[1], 0};
            bool inside = true;
            for (std::size_t axis = 0; axis < taps.size(); ++axis) {
                from.push_back(at[axis + 2] + tap[axis] - pre[axis]);
                by.push_back(tap[axis]);
                inside = inside && from.back() >= 0 && from.back() < x.sides[axis + 2];
            }
            for (std::int64_t c = 0; inside && c < x.sides[1]; ++c) {
                from[1] = by[1] = c;
                const std::int64_t ox = x.at(from), ow = weight.at(by), oy = y.at(at);
                if (forward)
                    sums[static_cast<std::size_t>(oy)] +=
                        x.read(pointers[x.id], ox) * weight.read(pointers[weight.id], ow);
                else if (data)
                    sums[static_cast<std::size_t>(ox)] +=
                        y.read(pointers[y.id], oy) * weight.read(pointers[weight.id], ow);
                else
                    sums[static_cast<std::size_t>(ow)] += y.read(pointers[y.id], oy) * x.read(pointers[x.id], ox);
            }
        } while (next(tap, taps));
    } while (next(at, y.sides));
    for (std::size_t i = 0; i < sums.size(); ++i) out.write(pointers[out.id], static_cast<std::int64_t>(i), sums[i]);
    return CUDNN_STATUS_SUCCESS;
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

size_t cudnnGetVersion(void) { return 90199; }
const char* cudnnGetErrorString(cudnnStatus_t status) {
    return status == CUDNN_STATUS_SUCCESS ? "SUCCESS" : status == CUDNN_STATUS_NOT_SUPPORTED ? "NOT_SUPPORTED" : "BAD";
}
void cudnnGetLastErrorString(char* message, size_t size) { std::strncpy(message, "pretended", size); }
cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
    static char nothing;
    *handle = reinterpret_cast<cudnnHandle_t>(&nothing);
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnSetStream(cudnnHandle_t, cudaStream_t) { return CUDNN_STATUS_SUCCESS; }

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t* descriptor) {
    *descriptor = new Descriptor{type, false, {}};
    return CUDNN_STATUS_SUCCESS;
}
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
    delete of(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void* values) {
    static const std::map<int, std::size_t> sizes{
        {CUDNN_TYPE_INT64, 8},    {CUDNN_TYPE_DATA_TYPE, sizeof(cudnnDataType_t)},
        {CUDNN_TYPE_FLOAT, 4},    {CUDNN_TYPE_CONVOLUTION_MODE, sizeof(cudnnConvolutionMode_t)},
        {CUDNN_TYPE_VOID_PTR, 8}, {CUDNN_TYPE_HEUR_MODE, sizeof(cudnnBackendHeurMode_t)},
        {CUDNN_TYPE_HANDLE, 8},   {CUDNN_TYPE_BACKEND_DESCRIPTOR, 8}};
    const auto size = sizes.find(type);
    if (of(descriptor)->finalized || size == sizes.end() || count < 1) return CUDNN_STATUS_BAD_PARAM;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR && !of(*static_cast<void* const*>(values))->finalized)
        return CUDNN_STATUS_BAD_PARAM;
    const char* const bytes = static_cast<const char*>(values);
    of(descriptor)->values[name].assign(bytes, bytes + static_cast<std::size_t>(count) * size->second);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t raw) {
    Descriptor& d = *of(raw);
    if (d.finalized || !complete(d)) return CUDNN_STATUS_BAD_PARAM;
    if (d.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR) {
        const Descriptor& configuration = *d.other(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
        if (engines().at(configuration.one<std::int64_t>(engine_number)).fault == Engine::Fault::no_plan)
            return CUDNN_STATUS_NOT_SUPPORTED;
    }
    d.finalized = true;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const raw, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t, int64_t wanted, int64_t* found, void* values) {
    const Descriptor& d = *of(raw);
    if (!d.finalized) return CUDNN_STATUS_BAD_PARAM;
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS) {
        const Descriptor* graph = d.other(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        const auto numbers = offered(*graph, d.one<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE));
        *found = static_cast<std::int64_t>(numbers.size());
        for (std::size_t i = 0; i < numbers.size() && static_cast<std::int64_t>(i) < wanted; ++i) {
            Descriptor& configuration = *of(static_cast<void**>(values)[i]);
            configuration.put(engine_number, numbers[i]);
            configuration.put(CUDNN_ATTR_OPERATIONGRAPH_OPS, graph->other(CUDNN_ATTR_OPERATIONGRAPH_OPS));
            configuration.finalized = true;
        }
        return CUDNN_STATUS_SUCCESS;
    }
    *found = 1;
    if (name == CUDNN_ATTR_ENGINECFG_ENGINE) {
        Descriptor& engine = *of(*static_cast<void**>(values));
        engine.put(engine_number, d.one<std::int64_t>(engine_number));
        engine.finalized = true;
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_ENGINE_GLOBAL_INDEX) {
        *static_cast<std::int64_t*>(values) = d.one<std::int64_t>(engine_number);
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        const auto& notes = engines().at(d.one<std::int64_t>(engine_number)).notes;
        *found = static_cast<std::int64_t>(notes.size());
        if (!notes.empty()) std::memcpy(values, notes.data(), notes.size() * sizeof notes[0]);
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        const std::int64_t number = d.other(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)->one<std::int64_t>(engine_number);
        *static_cast<std::int64_t*>(values) =
            engines().at(number).fault == Engine::Fault::huge ? std::int64_t{1} << 33 : 1000 * number;
        return CUDNN_STATUS_SUCCESS;
    }
    return CUDNN_STATUS_BAD_PARAM;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack) {
    if (!of(plan)->finalized || !of(pack)->finalized) return CUDNN_STATUS_BAD_PARAM;
    const Descriptor& configuration = *of(plan)->other(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const std::int64_t number = configuration.one<std::int64_t>(engine_number);
    const Engine& engine = engines().at(number);
    const bool spoil = engine.fault == Engine::Fault::never_to_run;
    if (!spoil && engine.fault != Engine::Fault::none) return CUDNN_STATUS_EXECUTION_FAILED;
    // The workspace belongs to the plan: the caller must not mind what is left in it.
    std::memset(of(pack)->one<void*>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE), 0xA5, static_cast<std::size_t>(1000 * number));
    std::this_thread::sleep_for(std::chrono::microseconds(engine.microseconds));
    return carry_out(*configuration.other(CUDNN_ATTR_OPERATIONGRAPH_OPS), *of(pack), spoil);
}

}  // extern "C"
#pragma GCC visibility pop
