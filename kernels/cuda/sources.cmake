# The .cu files that both builds of the CUDA rows compile.
set(cover_cuda_sources augment conv elementwise fused_conv library local_attention loss norm optim pool reduce resize roof views warp)
list(TRANSFORM cover_cuda_sources REPLACE "(.+)" "${CMAKE_CURRENT_LIST_DIR}/\\1.cu")
