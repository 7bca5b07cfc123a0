// What stands between the CUDA rows and the plug-in libcover_vendor.so: plain data and function pointers. The plug-in
// calls nothing of this program and no CUDA runtime; memory, the stream and how to wait for it come from the caller.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cover::vendor {

enum class Library : std::int32_t { cudnn, cublas };
enum class Pass : std::int32_t { forward, backward_data, backward_weight };
enum class Element : std::int32_t { float32, bfloat16 };

// One pass of a convolution with stride 1 that keeps the sides, channels last: x (n,d,h,w,c_in), y (n,d,h,w,c_out).
// All of it is the key of the plug-in's plans.
struct Convolution {
    std::int64_t pass = 0;  // Pass
    std::int64_t spatial_dims = 2, kernel = 3;
    std::int64_t n = 1, d = 1, h = 1, w = 1, c_in = 1, c_out = 1;
    std::int64_t element = 0;  // Element, of x and y
    std::int64_t tf32 = 0;     // float32 operands may be rounded to ten bits of fraction

    auto operator<=>(const Convolution&) const = default;
};

// On the device. Forward writes y, backward_data x, backward_weight the weights; the other two are read. For cuDNN the
// weights lie as (c_out, taps, c_in) in the type that workspace() names; for cuBLAS as (c_in, c_out), where
// backward_weight adds to them in float32 and the other passes read them in x's type.
struct Buffers {
    void *x = nullptr, *weight = nullptr, *y = nullptr;
    void* workspace = nullptr;
    std::int64_t workspace_bytes = 0;
    void* stream = nullptr;
    bool (*synchronise)(void* stream) = nullptr;  // false: the work before it has failed
};

// A sentence or a name that a function of the plug-in leaves behind.
struct Text {
    char characters[3072];
};

struct Interface {
    std::int64_t version;
    // Opens the library, once. True: `text` names its version and file. False: a sentence (what, where looked, what to
    // do).
    bool (*open)(Library library, Text* text);
    // Bytes that the next call of run() wants, and the type that the pass reads or writes weights in. Below 0 where the
    // library is missing, finds no device or has nothing for this shape: then `text` is a sentence.
    std::int64_t (*workspace)(Library library, const Convolution* pass, Element* weight, Text* text);
    // Queues the pass on the stream. False: a sentence. The first call for a shape may run it several times, to find
    // the fastest way, and then waits for the stream; the bytes in x, weight and y are the same afterwards, but those
    // of a product that adds.
    bool (*run)(Library library, const Convolution* pass, const Buffers* buffers, Text* text);
    // How the shape is run: the plan that was chosen, of how many. Empty before the first run.
    void (*describe)(Library library, const Convolution* pass, Text* text);
};

inline constexpr std::int64_t interface_version = 1;
// The plug-in's one exported function.
inline constexpr const char* entry_point = "cover_vendor_interface";
using EntryPoint = const Interface* (*)();

}  // namespace cover::vendor
