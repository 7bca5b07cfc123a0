// Convolutions of one pixel as products of matrices by cuBLAS.
#pragma once

#include <cublas_v2.h>

#include "kernels/vendor/interface.h"
#include "kernels/vendor/shared_library.h"

namespace cover::vendor {

class Cublas {
public:
    Cublas();

    std::string name() const;  // "cuBLAS 13.1.0, /usr/lib/.../libcublas.so.13"
    // See Interface. Both throw Failure.
    std::int64_t workspace(const Convolution& pass, Element& weight);
    void run(const Convolution& pass, const Buffers& buffers);

private:
    cublasHandle_t handle();
    void check(cublasStatus_t status, const char* what) const;

    SharedLibrary library_;
    decltype(&::cublasGetProperty) property_;
    decltype(&::cublasGetStatusString) status_text_;
    decltype(&::cublasCreate_v2) create_;
    decltype(&::cublasSetStream_v2) set_stream_;
    decltype(&::cublasSetWorkspace_v2) set_workspace_;
    using Product = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*,
                                       const void*, cudaDataType, int, const void*, cudaDataType, int, const void*,
                                       void*, cudaDataType, int, cublasComputeType_t, cublasGemmAlgo_t);
    Product product_;
    cublasHandle_t handle_ = nullptr;
    std::string handle_refusal_;
};

}  // namespace cover::vendor
