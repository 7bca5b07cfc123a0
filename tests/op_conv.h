// The row tests of the convolution, shared with the tests of the harness itself.
#pragma once

#include "kernels/conv.h"
#include "tests/op_rows.h"

namespace cover::test {

RowTest<ConvParams, ConvRun> conv_test();
RowTest<ConvParams, ConvBackwardDataRun> conv_backward_data_test();
RowTest<ConvParams, ConvBackwardWeightRun> conv_backward_weight_test();

}  // namespace cover::test
