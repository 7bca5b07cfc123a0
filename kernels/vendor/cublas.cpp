#include "kernels/vendor/cublas.h"

#include <limits>

namespace cover::vendor {
namespace {

// What cuBLAS takes by itself on Hopper; with less it may pick slower ways.
constexpr std::int64_t workspace_bytes = std::int64_t{32} << 20;

std::int64_t pixels_of(const Convolution& pass) { return pass.n * pass.d * pass.h * pass.w; }

}  // namespace

Cublas::Cublas()
    : library_({"cuBLAS",
                {"libcublas.so.13", "libcublas.so.12"},
                {"nvidia/cu13/lib", "nvidia/cublas/lib"},
                "nvidia-cublas"}) {
    library_.bind(property_, "cublasGetProperty");
    library_.bind(status_text_, "cublasGetStatusString");
    library_.bind(create_, "cublasCreate_v2");
    library_.bind(set_stream_, "cublasSetStream_v2");
    library_.bind(set_workspace_, "cublasSetWorkspace_v2");
    library_.bind(product_, "cublasGemmEx");
}

std::string Cublas::name() const {
    int numbers[3] = {};
    const libraryPropertyType parts[3] = {MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL};
    for (int i = 0; i < 3; ++i) check(property_(parts[i], &numbers[i]), "cublasGetProperty");
    return "cuBLAS " + std::to_string(numbers[0]) + "." + std::to_string(numbers[1]) + "." +
           std::to_string(numbers[2]) + ", " + library_.path();
}

void Cublas::check(cublasStatus_t status, const char* what) const {
    if (status != CUBLAS_STATUS_SUCCESS) throw Failure(std::string("[vendor] ") + what + ": " + status_text_(status));
}

cublasHandle_t Cublas::handle() {
    if (!handle_ && handle_refusal_.empty()) {
        const cublasStatus_t status = create_(&handle_);
        if (status != CUBLAS_STATUS_SUCCESS) {
            handle_ = nullptr;
            handle_refusal_ = "[vendor] " + name() + " cannot start: " + status_text_(status) +
                              "; it needs a CUDA device and a driver that is new enough for it (nvidia-smi shows both)";
        }
    }
    if (!handle_) throw Failure(handle_refusal_);
    return handle_;
}

std::int64_t Cublas::workspace(const Convolution& pass, Element& weight) {
    if (pass.kernel != 1)
        throw Failure("[vendor] cuBLAS serves convolutions of one pixel (1x1), this kernel is " +
                      std::to_string(pass.kernel) + " wide; take another row than vendor_cublas");
    if (pixels_of(pass) > std::numeric_limits<int>::max())
        throw Failure("[vendor] cuBLAS counts in 32 bits, and " + std::to_string(pixels_of(pass)) +
                      " pixels are more than that; take another row than vendor_cublas, or a smaller batch");
    handle();
    weight =
        static_cast<Pass>(pass.pass) == Pass::backward_weight ? Element::float32 : static_cast<Element>(pass.element);
    return workspace_bytes;
}

// cuBLAS counts columns first, so that a matrix (pixels, channels) here is a matrix (channels, pixels) there.
void Cublas::run(const Convolution& pass, const Buffers& buffers) {
    Element weight_element{};
    workspace(pass, weight_element);
    const cublasHandle_t cublas = handle();
    check(set_stream_(cublas, static_cast<cudaStream_t>(buffers.stream)), "cublasSetStream");
    check(set_workspace_(cublas, buffers.workspace, static_cast<std::size_t>(buffers.workspace_bytes)),
          "cublasSetWorkspace");
    const auto pixels = static_cast<int>(pixels_of(pass)), in = static_cast<int>(pass.c_in),
               out = static_cast<int>(pass.c_out);
    const bool narrow = static_cast<Element>(pass.element) == Element::bfloat16;
    const cudaDataType image = narrow ? CUDA_R_16BF : CUDA_R_32F;
    const cublasComputeType_t compute = pass.tf32 && !narrow ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    const float one = 1, zero = 0;
    switch (static_cast<Pass>(pass.pass)) {
    case Pass::forward:  // y (out, pixels) = weight (out, in) x (in, pixels)
        check(product_(cublas, CUBLAS_OP_N, CUBLAS_OP_N, out, pixels, in, &one, buffers.weight, image, out, buffers.x,
                       image, in, &zero, buffers.y, image, out, compute, CUBLAS_GEMM_DEFAULT),
              "cublasGemmEx, forward");
        break;
    case Pass::backward_data:  // x (in, pixels) = weight (out, in)' y (out, pixels)
        check(product_(cublas, CUBLAS_OP_T, CUBLAS_OP_N, in, pixels, out, &one, buffers.weight, image, out, buffers.y,
                       image, out, &zero, buffers.x, image, in, compute, CUBLAS_GEMM_DEFAULT),
              "cublasGemmEx, backward_data");
        break;
    case Pass::backward_weight:  // weight (out, in) += y (out, pixels) x (in, pixels)'
        check(product_(cublas, CUBLAS_OP_N, CUBLAS_OP_T, out, in, pixels, &one, buffers.y, image, out, buffers.x, image,
                       in, &one, buffers.weight, CUDA_R_32F, out, compute, CUBLAS_GEMM_DEFAULT),
              "cublasGemmEx, backward_weight");
        break;
    }
}

}  // namespace cover::vendor
