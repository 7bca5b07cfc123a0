// Brings one tensor after the other to a device while it works on: two pairs of page-locked and device memory in turn.
#pragma once

#include <array>

#include "core/tensor.h"

namespace cover {

class UploadRing {
public:
    // For tensors of this shape, float32. Throws Error(device) when there is no such memory left.
    UploadRing(Device device, const Shape& shape);
    ~UploadRing();
    UploadRing(const UploadRing&) = delete;
    UploadRing& operator=(const UploadRing&) = delete;

    // Copies `source`, which lies on the host, into page-locked memory and starts its way from there. The result is one
    // of two tensors; what the device was asked to do with it when it was last the result must be done. From one thread
    // at a time, which need not be that of await().
    Tensor begin(const Tensor& source);
    // Work that is queued on the device from here on sees `uploaded`, a result of begin().
    void await(const Tensor& uploaded);

private:
    struct Pair {
        void* pinned = nullptr;
        Tensor there;
    };
    Device device_;
    std::array<Pair, 2> pairs_;
    std::size_t next_ = 0;
};

}  // namespace cover
