#include "kernels/catalogue.h"

#include <algorithm>

#include "core/nearest.h"
#include "kernels/augment.h"
#include "kernels/conv.h"
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

namespace cover {
namespace {

template <class Row>
OpRows facts_of(const char* op, std::span<const Row> table) {
    OpRows result{op, {}};
    for (const auto& row : table) result.rows.push_back({row.name, row.device, row.dtype, row.math});
    return result;
}

// "conv" for "conv", "conv_backward_data" and "conv_backward_weight".
bool belongs_to(const std::string& op, const std::string& family) {
    return op == family || op.rfind(family + "_backward", 0) == 0;
}

}  // namespace

const std::vector<OpRows>& kernel_catalogue() {
    static const std::vector<OpRows> catalogue{
        facts_of("conv", conv_table()),
        facts_of("conv_backward_data", conv_backward_data_table()),
        facts_of("conv_backward_weight", conv_backward_weight_table()),
        facts_of("fused_conv", fused_conv_table()),
        facts_of("fused_conv_backward_data", fused_conv_backward_data_table()),
        facts_of("fused_conv_backward_weight", fused_conv_backward_weight_table()),
        facts_of("group_norm", group_norm_table()),
        facts_of("group_norm_statistics", group_norm_statistics_table()),
        facts_of("group_norm_apply", group_norm_apply_table()),
        facts_of("group_norm_backward", group_norm_backward_table()),
        facts_of("max_pool", max_pool_table()),
        facts_of("max_pool_backward", max_pool_backward_table()),
        facts_of("upsample", upsample_table()),
        facts_of("upsample_backward", upsample_backward_table()),
        facts_of("warp", warp_table()),
        facts_of("warp_backward", warp_backward_table()),
        facts_of("local_attention", local_attention_table()),
        facts_of("local_attention_backward", local_attention_backward_table()),
        facts_of("masked_l1", masked_l1_table()),
        facts_of("masked_l1_backward", masked_l1_backward_table()),
        facts_of("masked_cosine", masked_cosine_table()),
        facts_of("masked_cosine_backward", masked_cosine_backward_table()),
        facts_of("add", add_table()),
        facts_of("scale", scale_table()),
        facts_of("cast", cast_table()),
        facts_of("concat", concat_table()),
        facts_of("split", split_table()),
        facts_of("sum_of_squares", sum_of_squares_table()),
        facts_of("optimizer_factors", optimizer_factors_table()),
        facts_of("adam", adam_table()),
        facts_of("sgd", sgd_table()),
        facts_of("cut_views", cut_views_table()),
        facts_of("uniform_noise", uniform_noise_table()),
        facts_of("add_noise", add_noise_table()),
        facts_of("gaussian_blur", gaussian_blur_table()),
        facts_of("change_contrast", change_contrast_table()),
        facts_of("fill_blocks", fill_blocks_table()),
    };
    return catalogue;
}

KernelSelection selection_of(const std::vector<std::string>& entries) {
    KernelSelection selection;
    for (const auto& entry : entries) {
        const auto colon = entry.find(':');
        require(colon != std::string::npos && colon > 0 && colon + 1 < entry.size(), ErrorKind::configuration,
                "[kernel] '", entry, "': expected OP:ROW, as in conv:ref");
        const auto op = entry.substr(0, colon), row = entry.substr(colon + 1);
        std::vector<std::string> ops, rows;
        bool known_op = false, known_row = false;
        for (const auto& table : kernel_catalogue()) {
            ops.push_back(table.op);
            if (!belongs_to(table.op, op)) continue;
            known_op = known_op || table.op == op;
            for (const auto& facts : table.rows) {
                rows.push_back(facts.name);
                if (facts.name != row) continue;
                known_row = true;
                selection.rows[table.op] = row;
            }
        }
        require(known_op, ErrorKind::configuration, "[kernel] '", entry, "': there is no op '", op, "'",
                nearest_hint(op, ops));
        require(known_row, ErrorKind::configuration, "[kernel] '", entry, "': ", op, " has no row '", row, "'",
                nearest_hint(row, rows), "; `cover info` lists them all");
    }
    return selection;
}

}  // namespace cover
