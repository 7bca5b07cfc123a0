# What is said of nvcc in one place. Include before the language is enabled, call cover_use_cuda20() after.
# sm_80 with its PTX for later chips, and Hopper.
set(CMAKE_CUDA_ARCHITECTURES 80 90a-real CACHE STRING "")
macro(cover_use_cuda20)
  # CMake 3.25 does not know this option of nvcc 12 and 13.
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA_STANDARD 20)
endmacro()
