#include "nn/safetensors.h"

#include "app/weights.h"
#include "cover/trainer.h"
#include "tests/fuzz/targets.h"

namespace cover::fuzz {

void safetensors(const unsigned char* data, std::size_t size) {
    const std::string path = as_file(data, size);
    TensorFile file;
    const bool refused = only(ErrorKind::data, [&] { file = read_safetensors(path); });
    TensorHeader header;
    if (only(ErrorKind::data, [&] { header = read_safetensors_header(path); }) != refused)
        broken("the header alone is judged differently");
    if (refused) return;
    if (header.entries.size() != file.tensors.size()) broken("another number of tensors than the header has");
    std::size_t bytes = header.data_at;
    for (const auto& e : header.entries) bytes += e.end - e.begin;
    if (bytes != size) broken("bytes of the file that belong to no tensor");
    // What evaluate, export and --init do with the metadata, up to the point where memory is taken for the network.
    only(ErrorKind::data, [&] {
        const TrainConfig config = app::config_from_metadata(file.metadata, "fuzz");
        app::check_size(file, model_config(config), "fuzz");
    });
}

}  // namespace cover::fuzz
