#include "kernels/devices.h"

#include "kernels/cuda/rows.h"

namespace cover {
namespace {

const DeviceFacts& open(Device device) {
    if (device == Device::cpu) return machine_facts();
    const cuda::Library& library = device == Device::cuda ? cuda::native::library() : cuda::emulated::library();
    require(library.open != nullptr, ErrorKind::device, "[device] ", name_of(device),
            ": this program was built without nvcc and has no CUDA kernels; take --device cpu, or build it where nvcc "
            "12 or "
            "later is found");
    if (device == Device::cuda) {
        static const DeviceFacts facts = library.open();
        return facts;
    }
    static const DeviceFacts facts = library.open();
    return facts;
}

}  // namespace

Stream open_stream(Device device, ThreadPool& pool) {
    Stream stream;
    stream.device = device;
    stream.pool = &pool;
    stream.facts = &open(device);
    if (device == Device::cuda) stream.native = cuda::native::library().stream();
    return stream;
}

std::string why_unavailable(Device device) {
    try {
        open(device);
        return {};
    } catch (const Error& error) {
        return error.what();
    }
}

}  // namespace cover
