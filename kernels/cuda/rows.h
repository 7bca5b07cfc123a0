// The CUDA rows of every table, from one build of the .cu files: by nvcc (native, a shared library of its own) or by
// the host compiler over the emulation. A build that is absent has empty spans.
#pragma once

#include <span>

#include "core/device.h"
#include "kernels/augment.h"
#include "kernels/conv.h"
#include "kernels/device_timing.h"
#include "kernels/elementwise.h"
#include "kernels/fused_conv.h"
#include "kernels/local_attention.h"
#include "kernels/loss.h"
#include "kernels/norm.h"
#include "kernels/optim.h"
#include "kernels/pool.h"
#include "kernels/reduce.h"
#include "kernels/resize.h"
#include "kernels/views.h"
#include "kernels/warp.h"

namespace cover::cuda {

struct Rows {
    std::span<const ConvVariant> conv;
    std::span<const ConvBackwardDataVariant> conv_backward_data;
    std::span<const ConvBackwardWeightVariant> conv_backward_weight;
    std::span<const ConvVariant> vendor_conv;  // these three: cuDNN and cuBLAS, taken by name only
    std::span<const ConvBackwardDataVariant> vendor_conv_backward_data;
    std::span<const ConvBackwardWeightVariant> vendor_conv_backward_weight;
    std::span<const FusedConvVariant> fused_conv;
    std::span<const FusedConvBackwardDataVariant> fused_conv_backward_data;
    std::span<const FusedConvBackwardWeightVariant> fused_conv_backward_weight;
    std::span<const GroupNormVariant> group_norm;
    std::span<const GroupNormStatisticsVariant> group_norm_statistics;
    std::span<const GroupNormApplyVariant> group_norm_apply;
    std::span<const GroupNormBackwardVariant> group_norm_backward;
    std::span<const MaxPoolVariant> max_pool;
    std::span<const MaxPoolBackwardVariant> max_pool_backward;
    std::span<const UpsampleVariant> upsample;
    std::span<const UpsampleBackwardVariant> upsample_backward;
    std::span<const WarpVariant> warp;
    std::span<const WarpBackwardVariant> warp_backward;
    std::span<const LocalAttentionVariant> local_attention;
    std::span<const LocalAttentionBackwardVariant> local_attention_backward;
    std::span<const MaskedL1Variant> masked_l1;
    std::span<const MaskedL1BackwardVariant> masked_l1_backward;
    std::span<const MaskedCosineVariant> masked_cosine;
    std::span<const MaskedCosineBackwardVariant> masked_cosine_backward;
    std::span<const AddVariant> add;
    std::span<const ScaleVariant> scale;
    std::span<const CastVariant> cast;
    std::span<const ConcatVariant> concat;
    std::span<const SplitVariant> split;
    std::span<const SumOfSquaresVariant> sum_of_squares;
    std::span<const OptimizerFactorsVariant> optimizer_factors;
    std::span<const AdamVariant> adam;
    std::span<const SgdVariant> sgd;
    std::span<const CutViewsVariant> cut_views;
    std::span<const UniformNoiseVariant> uniform_noise;
    std::span<const AddNoiseVariant> add_noise;
    std::span<const GaussianBlurVariant> gaussian_blur;
    std::span<const ChangeContrastVariant> change_contrast;
    std::span<const FillBlocksVariant> fill_blocks;
};

// How a device records the work of its stream and plays it again. All null where it cannot.
struct Recorder {
    void (*begin)() = nullptr;
    void* (*end)() = nullptr;
    void (*play)(void* recording) = nullptr;
    void (*forget)(void* recording) = nullptr;
};

// Marks what runs between the two calls on a profiler's time line (NVTX). Null where there is none.
struct Ranges {
    void (*enter)(const char* name) = nullptr;
    void (*leave)() = nullptr;
};

// What a build brings: its rows, and how to reach its device.
struct Library {
    Rows rows;
    // Opens the device: its memory is then known to core, its facts filled in. Null in a build that is absent; throws
    // Error(device) with a sentence where there is no such device.
    DeviceFacts (*open)() = nullptr;
    void* (*stream)() = nullptr;  // the one stream on which everything runs (Stream::native)
    void (*wait)() = nullptr;     // until all that is queued there is done
    Recorder recorder;
    Ranges ranges;
    // Notes in a slot the time at which the device has done all that was queued before.
    void (*mark)(std::size_t slot) = nullptr;
    // Waits until both are reached.
    double (*seconds_between)(std::size_t from, std::size_t to) = nullptr;
    // Queues a loop of kernels/device_timing.h; returns its operations or bytes.
    double (*roof)(Roof kind, std::int64_t size, Stream&) = nullptr;
};

namespace native {
const Library& library();
}
namespace emulated {
const Library& library();
}

// A table: the rows of the reference, of the CPU, and of both CUDA builds.
template <class Row, class... Parts>
std::vector<Row> with_cuda(std::initializer_list<std::span<const Row>> others, Parts... parts) {
    std::vector<Row> table = join<Row>(others);
    for (const Library* library : {&emulated::library(), &native::library()})
        for (const std::span<const Row> rows : {library->rows.*parts...})
            table.insert(table.end(), rows.begin(), rows.end());
    return table;
}

}  // namespace cover::cuda
