// The descriptors of cuDNN's graph interface, as far as one convolution needs them.
#pragma once

#include <cudnn.h>

#include <string>
#include <vector>

#include "kernels/vendor/interface.h"
#include "kernels/vendor/shared_library.h"

namespace cover::vendor {

// The functions that are used, found at run time.
struct CudnnFunctions {
    explicit CudnnFunctions(const SharedLibrary& library);

    decltype(&::cudnnGetVersion) version;
    decltype(&::cudnnGetErrorString) status_text;
    decltype(&::cudnnGetLastErrorString) last_error;
    decltype(&::cudnnCreate) create;
    decltype(&::cudnnSetStream) set_stream;
    decltype(&::cudnnBackendCreateDescriptor) create_descriptor;
    decltype(&::cudnnBackendDestroyDescriptor) destroy_descriptor;
    decltype(&::cudnnBackendFinalize) finalize;
    decltype(&::cudnnBackendSetAttribute) set_attribute;
    decltype(&::cudnnBackendGetAttribute) get_attribute;
    decltype(&::cudnnBackendExecute) execute;

    // Throws Failure with cuDNN's own words unless the call succeeded.
    void check(cudnnStatus_t status, const std::string& what) const;
};

class Descriptor {
public:
    Descriptor(const CudnnFunctions& cudnn, cudnnBackendDescriptorType_t type, const char* name);
    ~Descriptor();
    Descriptor(Descriptor&& other) noexcept;
    Descriptor& operator=(Descriptor&&) = delete;

    template <class T>
    Descriptor& set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type,
                    const std::vector<T>& values) {
        return set(attribute, type, static_cast<std::int64_t>(values.size()), values.data());
    }
    template <class T>
    Descriptor& set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, T value) {
        return set(attribute, type, 1, static_cast<const void*>(&value));
    }
    Descriptor& set(cudnnBackendAttributeName_t attribute, const Descriptor& other) {
        return set(attribute, CUDNN_TYPE_BACKEND_DESCRIPTOR, other.get());
    }
    Descriptor& finalize();
    cudnnBackendDescriptor_t get() const { return descriptor_; }

private:
    Descriptor& set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, std::int64_t count,
                    const void* values);

    const CudnnFunctions* cudnn_;
    const char* name_;
    cudnnBackendDescriptor_t descriptor_ = nullptr;
};

inline constexpr std::int64_t x_id = 1, weight_id = 2, y_id = 3;

// The operation of one pass and all that it refers to, before a handle is needed. Everything is finalized.
struct ConvolutionOperation {
    ConvolutionOperation(const CudnnFunctions& cudnn, const Convolution& pass, Element weight_element);

    Descriptor x, weight, y, convolution, operation;
};

// Sides and strides of a tensor as cuDNN orders them (n, c, [d], h, w), channels last in memory. Without d in 2D.
struct Layout {
    std::vector<std::int64_t> sides, strides;
};
Layout image_layout(const Convolution& pass, std::int64_t channels);
// (c_out, c_in, [kd], kh, kw), stored as (c_out, [kd], kh, kw, c_in).
Layout weight_layout(const Convolution& pass);

}  // namespace cover::vendor
