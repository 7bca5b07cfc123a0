#include "kernels/devices.h"

#include <cstdlib>

#include "core/device_memory.h"
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

bool fusion_wanted() {
    const char* wish = std::getenv("COVER_FUSION");
    return !(wish && std::string(wish) == "off");
}

Stream open_stream(Device device, ThreadPool& pool) {
    Stream stream;
    stream.device = device;
    stream.pool = &pool;
    stream.facts = &open(device);
    stream.fuse = fusion_wanted();
    if (device == Device::cuda) {
        const cuda::Library& library = cuda::native::library();
        stream.native = library.stream();
        stream.wait = library.wait;
        stream.enter_range = library.ranges.enter;
        stream.leave_range = library.ranges.leave;
    }
    return stream;
}

struct Recording::State {
    explicit State(Device device) : blocks(device) {}
    ReservedBlocks blocks;
    const cuda::Recorder* recorder = nullptr;
    void* recorded = nullptr;
};

bool Recording::possible(const Stream& stream) {
    if (stream.device != Device::cuda || stream.profile || !device_blocks_are_kept()) return false;
    const char* wish = std::getenv("COVER_RECORD");
    return cuda::native::library().recorder.begin != nullptr && !(wish && std::string(wish) == "off");
}

Recording::Recording(Stream& stream, const std::function<void()>& work) {
    require(possible(stream), ErrorKind::internal, "[device] ", name_of(stream.device), " records no work");
    state_ = std::make_unique<State>(stream.device);
    state_->recorder = &cuda::native::library().recorder;
    state_->recorder->begin();
    try {
        work();
    } catch (...) {
        // The stream has to leave its recording whatever became of the work; that sentence counts, not this one.
        try {
            state_->recorder->forget(state_->recorder->end());
        } catch (const Error&) {
        }
        throw;
    }
    state_->recorded = state_->recorder->end();
    state_->blocks.close();
}

Recording::~Recording() {
    if (state_->recorded) state_->recorder->forget(state_->recorded);
}

void Recording::play() { state_->recorder->play(state_->recorded); }

std::string why_unavailable(Device device) {
    try {
        open(device);
        return {};
    } catch (const Error& error) {
        return error.what();
    }
}

}  // namespace cover
