#include "kernels/vendor/cudnn_graph.h"

#include <utility>

namespace cover::vendor {
namespace {

cudnnDataType_t type_of(Element element) {
    return element == Element::bfloat16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

Layout channels_last(std::int64_t outer, std::int64_t channels, const std::vector<std::int64_t>& spatial) {
    Layout layout{{outer, channels}, {0, 1}};
    layout.sides.insert(layout.sides.end(), spatial.begin(), spatial.end());
    layout.strides.resize(layout.sides.size());
    std::int64_t stride = channels;
    for (std::size_t axis = layout.sides.size() - 1; axis > 1; --axis) {
        layout.strides[axis] = stride;
        stride *= layout.sides[axis];
    }
    layout.strides[0] = stride;
    return layout;
}

Descriptor tensor(const CudnnFunctions& cudnn, const char* name, std::int64_t id, Element element,
                  const Layout& layout) {
    Descriptor descriptor(cudnn, CUDNN_BACKEND_TENSOR_DESCRIPTOR, name);
    descriptor.set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, id)
        .set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, type_of(element))
        .set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, std::int64_t{16})
        .set(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, layout.sides)
        .set(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, layout.strides)
        .finalize();
    return descriptor;
}

Descriptor convolution_of(const CudnnFunctions& cudnn, const Convolution& pass) {
    const auto axes = static_cast<std::size_t>(pass.spatial_dims);
    const std::vector<std::int64_t> ones(axes, 1), padding(axes, pass.kernel / 2);
    Descriptor descriptor(cudnn, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "convolution");
    descriptor.set(CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, pass.spatial_dims)
        .set(CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT)
        .set(CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, CUDNN_CROSS_CORRELATION)
        .set(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, padding)
        .set(CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, padding)
        .set(CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, ones)
        .set(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, ones)
        .finalize();
    return descriptor;
}

// What the three kinds of operation call their parts.
struct Names {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, weight, y, convolution, alpha, beta;
};

Names names_of(Pass pass) {
    switch (pass) {
    case Pass::forward:
        return {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA};
    case Pass::backward_data:
        return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA};
    case Pass::backward_weight: break;
    }
    return {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
            CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};
}

}  // namespace

CudnnFunctions::CudnnFunctions(const SharedLibrary& library) {
    library.bind(version, "cudnnGetVersion");
    library.bind(status_text, "cudnnGetErrorString");
    library.bind(last_error, "cudnnGetLastErrorString");
    library.bind(create, "cudnnCreate");
    library.bind(set_stream, "cudnnSetStream");
    library.bind(create_descriptor, "cudnnBackendCreateDescriptor");
    library.bind(destroy_descriptor, "cudnnBackendDestroyDescriptor");
    library.bind(finalize, "cudnnBackendFinalize");
    library.bind(set_attribute, "cudnnBackendSetAttribute");
    library.bind(get_attribute, "cudnnBackendGetAttribute");
    library.bind(execute, "cudnnBackendExecute");
}

void CudnnFunctions::check(cudnnStatus_t status, const std::string& what) const {
    if (status == CUDNN_STATUS_SUCCESS) return;
    char details[512] = {};
    last_error(details, sizeof details);
    throw Failure(what + ": " + status_text(status) + (details[0] ? " (" + std::string(details) + ")" : ""));
}

Descriptor::Descriptor(const CudnnFunctions& cudnn, cudnnBackendDescriptorType_t type, const char* name)
    : cudnn_(&cudnn), name_(name) {
    cudnn.check(cudnn.create_descriptor(type, &descriptor_), name_);
}

Descriptor::~Descriptor() {
    if (descriptor_) cudnn_->destroy_descriptor(descriptor_);
}

Descriptor::Descriptor(Descriptor&& other) noexcept
    : cudnn_(other.cudnn_), name_(other.name_), descriptor_(std::exchange(other.descriptor_, nullptr)) {}

Descriptor& Descriptor::set(cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, std::int64_t count,
                            const void* values) {
    cudnn_->check(cudnn_->set_attribute(descriptor_, attribute, type, count, values),
                  std::string(name_) + ", attribute " + std::to_string(attribute));
    return *this;
}

Descriptor& Descriptor::finalize() {
    cudnn_->check(cudnn_->finalize(descriptor_), name_);
    return *this;
}

Layout image_layout(const Convolution& pass, std::int64_t channels) {
    if (pass.spatial_dims == 2) return channels_last(pass.n, channels, {pass.h, pass.w});
    return channels_last(pass.n, channels, {pass.d, pass.h, pass.w});
}

Layout weight_layout(const Convolution& pass) {
    return channels_last(pass.c_out, pass.c_in,
                         std::vector<std::int64_t>(static_cast<std::size_t>(pass.spatial_dims), pass.kernel));
}

ConvolutionOperation::ConvolutionOperation(const CudnnFunctions& cudnn, const Convolution& pass, Element weight_element)
    : x(tensor(cudnn, "x", x_id, static_cast<Element>(pass.element), image_layout(pass, pass.c_in))),
      weight(tensor(cudnn, "weight", weight_id, weight_element, weight_layout(pass))),
      y(tensor(cudnn, "y", y_id, static_cast<Element>(pass.element), image_layout(pass, pass.c_out))),
      convolution(convolution_of(cudnn, pass)),
      operation(cudnn, names_of(static_cast<Pass>(pass.pass)).type, "operation") {
    const Names names = names_of(static_cast<Pass>(pass.pass));
    operation.set(names.x, x)
        .set(names.weight, weight)
        .set(names.y, y)
        .set(names.convolution, convolution)
        .set(names.alpha, CUDNN_TYPE_FLOAT, 1.0F)
        .set(names.beta, CUDNN_TYPE_FLOAT, 0.0F)
        .finalize();
}

}  // namespace cover::vendor
