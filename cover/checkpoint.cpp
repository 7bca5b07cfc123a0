#include "cover/checkpoint.h"

#include <charconv>
#include <map>

#include "core/check.h"

namespace cover {
namespace {

constexpr int format = 1;

// Counters of the metadata, in RunPosition and beside it.
struct Counters {
    std::int64_t steps = 0, next_batch = 0, skipped = 0, redrawn = 0, optimizer_steps = 0;
};
constexpr std::pair<const char*, std::int64_t Counters::*> counters[] = {
    {"step", &Counters::steps},      {"next_batch", &Counters::next_batch},           {"skipped", &Counters::skipped},
    {"redrawn", &Counters::redrawn}, {"optimizer_steps", &Counters::optimizer_steps},
};
constexpr const char* extra_prefix = "extra.";

std::vector<std::pair<std::string, Tensor*>> moments_of(Optimizer& optimizer) {
    std::vector<std::pair<std::string, Tensor*>> moments{{"optimizer.first.", &optimizer.first_moment()}};
    if (optimizer.second_moment().defined()) moments.emplace_back("optimizer.second.", &optimizer.second_moment());
    return moments;
}

const std::string& entry(const Metadata& metadata, const std::string& key, const std::string& source) {
    const auto at = metadata.find(key);
    require(at != metadata.end(), ErrorKind::data, "[checkpoint] ", source, ": has no metadata '", key, "'");
    return at->second;
}

std::int64_t count_of(const Metadata& metadata, const std::string& key, const std::string& source) {
    const auto& word = entry(metadata, key, source);
    std::int64_t value = -1;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    require(error == std::errc() && end == word.data() + word.size() && value >= 0 && value < (std::int64_t{1} << 48),
            ErrorKind::data, "[checkpoint] ", source, ": the metadata '", key, "' is '", word, "', no count");
    return value;
}

}  // namespace

TensorFile training_state(Trainer& trainer, RunPosition position) {
    TensorFile state;
    const ParameterSet& parameters = trainer.model().parameters();
    for (const auto& [prefix, moment] : moments_of(trainer.optimizer()))
        for (std::size_t i = 0; i < parameters.list().size(); ++i)
            state.tensors.push_back(
                {prefix + parameters.list()[i].name, parameters.to_file(*moment, static_cast<int>(i))});
    const Counters values{trainer.steps_done(), position.next_batch, trainer.steps_skipped(), position.redrawn,
                          trainer.optimizer().steps()};
    state.metadata["format"] = text(format);
    for (const auto& [key, member] : counters) state.metadata[key] = text(values.*member);
    state.metadata["kernels"] = position.kernels;
    for (const auto& [key, value] : position.extra) state.metadata[extra_prefix + key] = value;
    return state;
}

RunPosition restore_training(Trainer& trainer, const TensorFile& model, const TensorFile& state,
                             const std::string& source) {
    require(entry(state.metadata, "format", source) == text(format), ErrorKind::data, "[checkpoint] ", source,
            ": is of format ", entry(state.metadata, "format", source), "; this program reads format ", format);
    Counters values;
    for (const auto& [key, member] : counters) values.*member = count_of(state.metadata, key, source);
    RunPosition position{
        values.steps, values.next_batch, values.skipped, values.redrawn, entry(state.metadata, "kernels", source), {}};
    for (const auto& [key, value] : state.metadata)
        if (key.rfind(extra_prefix, 0) == 0) position.extra[key.substr(std::string(extra_prefix).size())] = value;

    ParameterSet& parameters = trainer.model().parameters();
    std::map<std::string, const Tensor*> given;
    for (const auto& t : state.tensors) given[t.name] = &t.tensor;
    std::string problem;
    const auto moments = moments_of(trainer.optimizer());
    std::size_t expected = 0;
    for (const auto& [prefix, moment] : moments)
        for (const Parameter& p : parameters.list()) {
            ++expected;
            const auto at = given.find(prefix + p.name);
            if (at == given.end())
                problem += " missing: " + prefix + p.name + ";";
            else if (at->second->shape() != p.file_shape || at->second->dtype() != moment->dtype())
                problem += " of another shape or type: " + prefix + p.name + ";";
        }
    if (problem.empty() && given.size() != expected)
        problem = text(" it has ", given.size(), " tensors instead of ", expected, ", those of another optimizer;");
    require(problem.empty(), ErrorKind::data, "[checkpoint] ", source, ": does not fit this run:", problem,
            " was it written with other settings?");
    // Checks all of the weights before it changes one of them.
    trainer.model().load(model.tensors, source);
    for (const auto& [prefix, moment] : moments)
        for (std::size_t i = 0; i < parameters.list().size(); ++i)
            parameters.from_file(*moment, static_cast<int>(i), *given.at(prefix + parameters.list()[i].name));
    trainer.optimizer().set_steps(values.optimizer_steps);
    trainer.set_position(values.steps, values.skipped);
    return position;
}

}  // namespace cover
