// A stand-in for libcublas.so.13 on machines with no GPU: the product that the plug-in asks for, on the host.
#include <cublas_v2.h>

#include "core/dtype.h"

namespace {

double read(const void* data, cudaDataType type, std::int64_t at) {
    return type == CUDA_R_16BF ? static_cast<float>(static_cast<const cover::bfloat16*>(data)[at])
                               : static_cast<const float*>(data)[at];
}

void write(void* data, cudaDataType type, std::int64_t at, double value) {
    if (type == CUDA_R_16BF)
        static_cast<cover::bfloat16*>(data)[at] = cover::bfloat16(static_cast<float>(value));
    else
        static_cast<float*>(data)[at] = static_cast<float>(value);
}

}  // namespace

#pragma GCC visibility push(default)
extern "C" {

cublasStatus_t cublasGetProperty(libraryPropertyType type, int* value) {
    *value = type == MAJOR_VERSION ? 13 : type == MINOR_VERSION ? 99 : 0;
    return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusString(cublasStatus_t) { return "pretended"; }
cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
    static char nothing;
    *handle = reinterpret_cast<cublasHandle_t>(&nothing);
    return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t, cudaStream_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void* workspace, size_t bytes) {
    return workspace && bytes > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}

// c = alpha a b + beta c of matrices stored by columns.
cublasStatus_t cublasGemmEx(cublasHandle_t, cublasOperation_t a_turned, cublasOperation_t b_turned, int m, int n, int k,
                            const void* alpha, const void* a, cudaDataType a_type, int lda, const void* b,
                            cudaDataType b_type, int ldb, const void* beta, void* c, cudaDataType c_type, int ldc,
                            cublasComputeType_t compute, cublasGemmAlgo_t) {
    const bool narrow = a_type == CUDA_R_16BF;
    if (a_type != b_type || (compute != CUBLAS_COMPUTE_32F && (narrow || compute != CUBLAS_COMPUTE_32F_FAST_TF32)))
        return CUBLAS_STATUS_NOT_SUPPORTED;
    if (lda < (a_turned == CUBLAS_OP_N ? m : k) || ldb < (b_turned == CUBLAS_OP_N ? k : n) || ldc < m)
        return CUBLAS_STATUS_INVALID_VALUE;
    const double scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
    for (std::int64_t column = 0; column < n; ++column)
        for (std::int64_t row = 0; row < m; ++row) {
            double sum = 0;
            for (std::int64_t i = 0; i < k; ++i)
                sum += read(a, a_type, a_turned == CUBLAS_OP_N ? row + i * lda : i + row * lda) *
                       read(b, b_type, b_turned == CUBLAS_OP_N ? i + column * ldb : column + i * ldb);
            const std::int64_t at = row + column * ldc;
            write(c, c_type, at, scale * sum + (keep != 0 ? keep * read(c, c_type, at) : 0.0));
        }
    return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
#pragma GCC visibility pop
