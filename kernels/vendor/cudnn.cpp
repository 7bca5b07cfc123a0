#include "kernels/vendor/cudnn.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>

namespace cover::vendor {
namespace {

constexpr std::size_t most_candidates = 10;
// More would not be worth a comparison, and would take the memory that the step needs.
constexpr std::int64_t most_workspace = std::int64_t{4} << 30;

// Names of cuDNN 9.8, by their numbers: the headers may be older.
constexpr auto properties_descriptor = static_cast<cudnnBackendDescriptorType_t>(38);
constexpr auto properties_json = static_cast<cudnnBackendAttributeName_t>(2702);
constexpr auto heuristic_properties = static_cast<cudnnBackendAttributeName_t>(204);
constexpr auto plan_properties = static_cast<cudnnBackendAttributeName_t>(407);

// Whether an engine with these notes may serve the row. Winograd's and Fourier's transforms lose digits that the rows'
// tolerances count on; so do operands that are rounded where nobody allowed it.
bool admissible(const std::vector<cudnnBackendNumericalNote_t>& notes, const Convolution& pass) {
    for (const cudnnBackendNumericalNote_t note : notes) switch (note) {
        case CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC:
        case CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS:
        case CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION:
        case CUDNN_NUMERICAL_NOTE_FFT:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6:
        case CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13: return false;
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE:
            if (static_cast<Element>(pass.element) == Element::float32 && !pass.tf32) return false;
            break;
        default: break;
        }
    return true;
}

std::string shape_of(const Convolution& pass) {
    static const char* const names[] = {"forward", "backward_data", "backward_weight"};
    std::string text = std::string(names[pass.pass]) + " of " + std::to_string(pass.n) + " x ";
    if (pass.spatial_dims == 3) text += std::to_string(pass.d) + "x";
    return text + std::to_string(pass.h) + "x" + std::to_string(pass.w) + ", " + std::to_string(pass.c_in) + " -> " +
           std::to_string(pass.c_out) + " channels, kernel " + std::to_string(pass.kernel) + ", " +
           (static_cast<Element>(pass.element) == Element::bfloat16 ? "bfloat16"
            : pass.tf32                                             ? "float32 rounded to TF32"
                                                                    : "exact float32");
}

bool measuring() {
    const char* const wish = std::getenv("COVER_VENDOR_MEASURE");
    return !(wish && std::string(wish) == "off");
}

}  // namespace

Cudnn::Cudnn(const std::string& device_properties)
    : library_({"cuDNN", {"libcudnn.so.9"}, {"nvidia/cudnn/lib", "nvidia/cu13/lib"}, "nvidia-cudnn-cu13"}),
      cudnn_(library_) {
    if (device_properties.empty()) return;
    // The end of the text is part of it.
    const std::vector<char> json(device_properties.c_str(), device_properties.c_str() + device_properties.size() + 1);
    properties_ = std::make_unique<Descriptor>(cudnn_, properties_descriptor, "device properties");
    properties_->set(properties_json, CUDNN_TYPE_CHAR, json).finalize();
}

void Cudnn::set_device(Descriptor& descriptor, cudnnBackendAttributeName_t handle_attribute,
                       cudnnBackendAttributeName_t properties_attribute) {
    if (properties_)
        descriptor.set(properties_attribute, *properties_);
    else
        descriptor.set(handle_attribute, CUDNN_TYPE_HANDLE, handle());
}

std::string Cudnn::name() const {
    const std::size_t version = cudnn_.version();
    return "cuDNN " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
           std::to_string(version % 100) + ", " + library_.path();
}

cudnnHandle_t Cudnn::handle() {
    if (!handle_ && handle_refusal_.empty()) {
        const cudnnStatus_t status = cudnn_.create(&handle_);
        if (status != CUDNN_STATUS_SUCCESS) {
            handle_ = nullptr;
            handle_refusal_ = "[vendor] " + name() + " cannot start: " + cudnn_.status_text(status) +
                              "; it needs a CUDA device and a driver that is new enough for it (nvidia-smi shows both)";
        }
    }
    if (!handle_) throw Failure(handle_refusal_);
    return handle_;
}

void Cudnn::add_plans(Plans& plans, const Convolution& pass, cudnnBackendHeurMode_t mode, std::string& last_error) {
    Descriptor heuristic(cudnn_, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "heuristic");
    heuristic.set(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, plans.graph->graph)
        .set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, mode);
    if (properties_) heuristic.set(heuristic_properties, *properties_);
    heuristic.finalize();
    std::int64_t count = 0;
    cudnn_.check(cudnn_.get_attribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                                      &count, nullptr),
                 "heuristic, results");
    std::vector<Descriptor> configurations;
    std::vector<cudnnBackendDescriptor_t> raw;
    for (std::int64_t i = 0; i < count; ++i) {
        configurations.emplace_back(cudnn_, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "configuration");
        raw.push_back(configurations.back().get());
    }
    if (count == 0) return;
    cudnn_.check(cudnn_.get_attribute(heuristic.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                      count, &count, raw.data()),
                 "heuristic, results");
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
        if (plans.candidates.size() == (measuring() ? most_candidates : 1)) return;
        try {
            Descriptor engine(cudnn_, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "engine");
            cudnnBackendDescriptor_t raw_engine = engine.get();
            std::int64_t found = 0;
            cudnn_.check(cudnn_.get_attribute(raw[i], CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                              &found, &raw_engine),
                         "configuration, engine");
            std::vector<cudnnBackendNumericalNote_t> notes(CUDNN_NUMERICAL_NOTE_TYPE_COUNT);
            cudnn_.check(cudnn_.get_attribute(engine.get(), CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                              CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &found, notes.data()),
                         "engine, notes");
            notes.resize(static_cast<std::size_t>(found));
            if (!admissible(notes, pass)) continue;
            std::int64_t index = -1;
            cudnn_.check(
                cudnn_.get_attribute(engine.get(), CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &found, &index),
                "engine, index");
            Plan plan{std::move(configurations[i]),
                      {cudnn_, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "plan"},
                      0,
                      "engine " + std::to_string(index)};
            set_device(plan.descriptor, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, plan_properties);
            plan.descriptor.set(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, plan.configuration).finalize();
            cudnn_.check(cudnn_.get_attribute(plan.descriptor.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                                              CUDNN_TYPE_INT64, 1, &found, &plan.workspace),
                         "plan, workspace");
            if (plan.workspace <= most_workspace) plans.candidates.push_back(std::move(plan));
        } catch (const Failure& failure) {  // an engine that does not take this shape, or this device, after all
            last_error = failure.what();
        }
    }
}

void Cudnn::find_plans(Plans& plans, const Convolution& pass, Element weight) {
    plans.weight = weight;
    std::string last_error;
    try {
        plans.graph = std::make_unique<Graph>(
            Graph{{cudnn_, pass, weight}, {cudnn_, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "graph"}});
        Descriptor& graph = plans.graph->graph;
        graph.set(CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                  std::vector<cudnnBackendDescriptor_t>{plans.graph->operation.operation.get()});
        if (!properties_) graph.set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle());
        graph.finalize();
        // The fallback's engines are slower, and only asked where the first list has nothing.
        for (const cudnnBackendHeurMode_t mode : {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK}) {
            try {
                add_plans(plans, pass, mode, last_error);
            } catch (const Failure& failure) {
                last_error = failure.what();
            }
            if (!plans.candidates.empty()) break;
        }
    } catch (const Failure& failure) {
        last_error = failure.what();
    }
    plans.workspace = 0;
    for (const Plan& plan : plans.candidates) plans.workspace = std::max(plans.workspace, plan.workspace);
    plans.tried = plans.candidates.size();
    plans.refusal.clear();
    if (plans.candidates.empty())
        plans.refusal = "[vendor] " + name() + " has no deterministic plan for the " + shape_of(pass) +
                        (last_error.empty() ? "" : ": " + last_error) + "; take another row than vendor_cudnn";
}

Cudnn::Plans& Cudnn::plans_of(const Convolution& pass) {
    if (!properties_) handle();
    const auto [at, fresh] = plans_.try_emplace(pass);
    if (fresh) {
        const auto element = static_cast<Element>(pass.element);
        const bool gradient = static_cast<Pass>(pass.pass) == Pass::backward_weight;
        find_plans(at->second, pass, gradient ? Element::float32 : element);
        // Not every engine sums into another type than it reads.
        if (at->second.candidates.empty() && gradient && element == Element::bfloat16)
            find_plans(at->second, pass, element);
    }
    if (!at->second.refusal.empty()) throw Failure(at->second.refusal);
    return at->second;
}

std::int64_t Cudnn::workspace(const Convolution& pass, Element& weight) {
    const Plans& plans = plans_of(pass);
    weight = plans.weight;
    return plans.workspace;
}

void Cudnn::execute(const Plan& plan, const Buffers& buffers) {
    Descriptor variables(cudnn_, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "variables");
    variables
        .set(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, std::vector<std::int64_t>{x_id, weight_id, y_id})
        .set(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR,
             std::vector<void*>{buffers.x, buffers.weight, buffers.y})
        .set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, buffers.workspace)
        .finalize();
    cudnn_.check(cudnn_.execute(handle(), plan.descriptor.get(), variables.get()), "[vendor] cuDNN, " + plan.engine);
}

// Every candidate once to warm up, then in runs of four between two waits, the least of three counting. One that is
// three times slower than the best so far at its first call is not looked at again.
void Cudnn::choose(Plans& plans, const Buffers& buffers) {
    using Clock = std::chrono::steady_clock;
    const auto seconds_of = [&](const Plan& plan, int runs) {
        if (!buffers.synchronise(buffers.stream)) throw Failure("[vendor] the stream has failed before a measurement");
        const auto start = Clock::now();
        for (int run = 0; run < runs; ++run) execute(plan, buffers);
        if (!buffers.synchronise(buffers.stream)) throw Failure("[vendor] the stream failed in " + plan.engine);
        return std::chrono::duration<double>(Clock::now() - start).count() / runs;
    };
    Plan* best = nullptr;
    std::string last_error;
    for (Plan& plan : plans.candidates) {
        try {
            execute(plan, buffers);
            plan.seconds = seconds_of(plan, 1);
            if (best && plan.seconds > 3 * best->seconds) continue;
            for (int repeat = 0; repeat < 3; ++repeat) plan.seconds = std::min(plan.seconds, seconds_of(plan, 4));
        } catch (const Failure& failure) {
            if (!buffers.synchronise(buffers.stream)) throw;
            last_error = failure.what();
            continue;
        }
        if (!best || plan.seconds < best->seconds) best = &plan;
    }
    if (!best) throw Failure("[vendor] none of cuDNN's plans runs: " + last_error + "; take another row");
    std::vector<Plan> chosen;
    chosen.push_back(std::move(*best));
    plans.workspace = chosen.front().workspace;
    plans.candidates = std::move(chosen);
}

void Cudnn::run(const Convolution& pass, const Buffers& buffers) {
    Plans& plans = plans_of(pass);
    if (buffers.workspace_bytes < plans.workspace) throw Failure("[vendor] cuDNN was given too small a workspace");
    cudnn_.check(cudnn_.set_stream(handle(), static_cast<cudaStream_t>(buffers.stream)), "[vendor] cudnnSetStream");
    if (!plans.chosen) {
        if (plans.candidates.size() > 1) choose(plans, buffers);
        plans.chosen = true;
    }
    execute(plans.candidates.front(), buffers);
}

std::string Cudnn::describe(const Convolution& pass) const {
    const auto at = plans_.find(pass);
    if (at == plans_.end() || !at->second.chosen) return "";
    const Plan& plan = at->second.candidates.front();
    return plan.engine + " of " + std::to_string(at->second.tried) + " plans, workspace " +
           std::to_string(plan.workspace) + " bytes" +
           (static_cast<Pass>(pass.pass) == Pass::backward_weight && at->second.weight == Element::bfloat16
                ? ", gradient rounded to bfloat16"
                : "");
}

}  // namespace cover::vendor
