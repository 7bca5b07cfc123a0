// From a device's name to a stream on which kernels run.
#pragma once

#include <functional>
#include <memory>

#include "kernels/variant.h"

namespace cover {

// Opens the device on the first call. `pool` serves the CPU's rows, and the emulation's blocks; it must outlive the
// stream. Throws Error(device) with a sentence where the build has no kernels for the device or the machine has no such
// device.
Stream open_stream(Device device, ThreadPool& pool);
// Stream::fuse of the streams that it opens: COVER_FUSION=off makes every op store its result.
bool fusion_wanted();

// Work of a device that is played again as often as wanted, without the host's part of it: shapes, addresses and
// kernels are those of the first time. Values are whatever lies at the addresses.
class Recording {
public:
    // Whether the stream's device can record; COVER_RECORD=off says no.
    static bool possible(const Stream& stream);
    // Records what work() queues, which is not yet done. It may not wait for the device, nor read what lies there, and
    // must have run once before: then it needs no new memory. The blocks that it takes and gives back stay reserved;
    // the tensors that it leaves must outlive the recording.
    Recording(Stream& stream, const std::function<void()>& work);
    ~Recording();
    Recording(const Recording&) = delete;
    Recording& operator=(const Recording&) = delete;

    void play();

private:
    struct State;
    std::unique_ptr<State> state_;
};

// The reason why open_stream(device) would throw; empty when it would not.
std::string why_unavailable(Device device);

}  // namespace cover
