#include "app/batch_file.h"

#include <charconv>

#include "core/check.h"
#include "nn/safetensors.h"

namespace cover::app {
namespace {

constexpr const char* kind = "cover batch 1";

template <class Get>
std::string joined(const std::vector<SampleKey>& keys, Get get) {
    std::string out;
    for (const auto& key : keys) out += text(out.empty() ? "" : ",", get(key));
    return out;
}

std::vector<std::uint32_t> numbers_of(const Metadata& metadata, const std::string& key, const std::string& path) {
    const auto it = metadata.find(key);
    require(it != metadata.end(), ErrorKind::data, "[batch] ", path, " has no metadata '", key,
            "'; take a file that a run wrote when its numbers were not finite");
    std::vector<std::uint32_t> numbers;
    const char* at = it->second.data();
    const char* end = at + it->second.size();
    while (at < end) {
        std::uint32_t value = 0;
        const auto [next, error] = std::from_chars(at, end, value);
        require(error == std::errc{} && (next == end || *next == ','), ErrorKind::data, "[batch] ", path,
                ": the metadata '", key, "' is no list of numbers");
        numbers.push_back(value);
        at = next == end ? end : next + 1;
    }
    return numbers;
}

}  // namespace

void write_batch(const std::string& path, const StoredBatch& batch) {
    std::vector<NamedTensor> tensors{{"batch.images", batch.images}};
    tensors.insert(tensors.end(), batch.weights.begin(), batch.weights.end());
    write_safetensors(path, tensors,
                      {{"kind", kind},
                       {"step", text(batch.step)},
                       {"epochs", joined(batch.keys, [](const SampleKey& key) { return key.epoch; })},
                       {"samples", joined(batch.keys, [](const SampleKey& key) { return key.sample; })},
                       {"config", batch.config},
                       {"found", batch.found}});
}

StoredBatch read_batch(const std::string& path) {
    const TensorFile file = read_safetensors(path);
    const auto entry = [&](const std::string& key) {
        const auto it = file.metadata.find(key);
        return it == file.metadata.end() ? std::string() : it->second;
    };
    require(entry("kind") == kind, ErrorKind::data, "[batch] ", path, " is not the batch of a step (kind '",
            entry("kind"), "'); take a file that a run wrote when its numbers were not finite");
    StoredBatch batch;
    batch.step = numbers_of(file.metadata, "step", path).at(0);
    batch.config = entry("config");
    batch.found = entry("found");
    const auto epochs = numbers_of(file.metadata, "epochs", path);
    const auto samples = numbers_of(file.metadata, "samples", path);
    for (const auto& tensor : file.tensors)
        if (tensor.name == "batch.images")
            batch.images = tensor.tensor;
        else
            batch.weights.push_back(tensor);
    require(batch.images.defined() && batch.images.shape().rank() == 5 && batch.images.dtype() == DType::float32,
            ErrorKind::data, "[batch] ", path, " has no 'batch.images' of five axes in float32");
    const auto count = static_cast<std::size_t>(batch.images.side(0));
    require(epochs.size() == count && samples.size() == count, ErrorKind::data, "[batch] ", path, " has ", count,
            " images, ", epochs.size(), " epochs and ", samples.size(), " samples; one of each is needed per image");
    for (std::size_t i = 0; i < count; ++i) batch.keys.push_back({epochs[i], samples[i]});
    return batch;
}

}  // namespace cover::app
