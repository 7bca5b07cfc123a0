#include "core/upload.h"

#include <cstring>

#include "core/device_memory.h"

namespace cover {

UploadRing::UploadRing(Device device, const Shape& shape) : device_(device) {
    const DeviceMemory& memory = device_memory(device);
    for (Pair& pair : pairs_) pair.there = Tensor::empty(shape, DType::float32, device);
    for (Pair& pair : pairs_) {
        pair.pinned = memory.allocate_pinned(pair.there.bytes());
        if (pair.pinned) continue;
        for (Pair& other : pairs_)
            if (other.pinned) memory.release_pinned(other.pinned);
        fail(ErrorKind::device, text("[upload] the system gives no ", pair.there.bytes(),
                                     " bytes of page-locked memory for ", name_of(device), "; use a smaller batch"));
    }
}

UploadRing::~UploadRing() {
    for (Pair& pair : pairs_) device_memory(device_).release_pinned(pair.pinned);
}

Tensor UploadRing::begin(const Tensor& source) {
    Pair& pair = pairs_[next_];
    require(source.shape() == pair.there.shape() && source.dtype() == DType::float32 && source.device() == Device::cpu,
            ErrorKind::internal, "[upload] a tensor ", source.shape().to_string(), " of ", name_of(source.dtype()),
            " on ", name_of(source.device()), " is not the host's ", pair.there.shape().to_string(), " of float32");
    next_ = 1 - next_;
    std::memcpy(pair.pinned, source.view().data, source.bytes());
    device_memory(device_).begin_upload(pair.there.view().data, pair.pinned, source.bytes());
    return pair.there;
}

void UploadRing::await(const Tensor& uploaded) {
    for (const Pair& pair : pairs_)
        if (pair.there.view().data == uploaded.view().data) return device_memory(device_).await_upload(pair.pinned);
    fail(ErrorKind::internal, text("[upload] a tensor ", uploaded.shape().to_string(), " was never uploaded"));
}

}  // namespace cover
