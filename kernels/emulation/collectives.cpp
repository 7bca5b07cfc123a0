#include "kernels/emulation/collectives.h"

#include <array>
#include <bit>

#include "kernels/emulation/hopper_execution.h"

namespace cover::cuda::emulated {
namespace {

bool names(unsigned mask, int lane) { return (mask >> lane) & 1u; }

void exchange_shuffle(Collective collective, unsigned mask, void* const* operands) {
    constexpr int lanes = static_cast<int>(warp_size);
    for (int lane = 0; lane < lanes; ++lane) {
        if (!names(mask, lane)) continue;
        auto& operand = *static_cast<ShuffleOperand*>(operands[lane]);
        int source = 0;
        switch (collective) {
        case Collective::shuffle_down: {
            const auto target = static_cast<std::int64_t>(lane) + static_cast<unsigned>(operand.argument);
            source = target < lanes ? static_cast<int>(target) : lane;
            break;
        }
        case Collective::shuffle_xor: {
            const int target = lane ^ operand.argument;
            source = target >= 0 && target < lanes ? target : lane;
            break;
        }
        default: source = static_cast<int>(static_cast<unsigned>(operand.argument) % warp_size); break;
        }
        constexpr std::uint64_t undefined = ~std::uint64_t{0};
        operand.result = names(mask, source) ? static_cast<const ShuffleOperand*>(operands[source])->value : undefined;
    }
}

void exchange_ballot(unsigned mask, void* const* operands) {
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (names(mask, lane) && static_cast<const BallotOperand*>(operands[lane])->vote) votes |= 1u << lane;
    for (int lane = 0; lane < 32; ++lane)
        if (names(mask, lane)) static_cast<BallotOperand*>(operands[lane])->result = votes;
}

unsigned element_of(const uint4& row, int column) {
    const unsigned words[4] = {row.x, row.y, row.z, row.w};
    return (words[column / 2] >> (16 * (column % 2))) & 0xffffu;
}

// Lane l brings row l % 8 of matrix l / 8.
void exchange_matrices(int matrices, bool transposed, void* const* operands) {
    for (int lane = 0; lane < 32; ++lane) {
        auto& to = *static_cast<MatrixOperand*>(operands[lane]);
        for (int matrix = 0; matrix < matrices; ++matrix) {
            unsigned pair[2];
            for (int i = 0; i < 2; ++i) {
                int row = lane / 4, column = 2 * (lane % 4) + i;
                if (transposed) std::swap(row, column);
                pair[i] = element_of(static_cast<const MatrixOperand*>(operands[8 * matrix + row])->row, column);
            }
            to.fragment[matrix] = pair[0] | pair[1] << 16;
        }
    }
}

constexpr int rows = 16, columns = 8;

// d (16 x 8) += a (16 x depth) b (depth x 8).
template <int depth>
void multiply_add(const float (&a)[rows][depth], const float (&b)[depth][columns], void* const* operands) {
    float d[rows][columns];
    const auto each_element = [&](auto&& visit) {
        for (int lane = 0; lane < 32; ++lane)
            for (int i = 0; i < 4; ++i)
                visit(static_cast<const MultiplyAddOperand*>(operands[lane])->d[i],
                      d[lane / 4 + 8 * (i / 2)][2 * (lane % 4) + i % 2]);
    };
    each_element([](float& held, float& element) { element = held; });
    for (int row = 0; row < rows; ++row)
        for (int k = 0; k < depth; ++k)
            for (int column = 0; column < columns; ++column) d[row][column] += a[row][k] * b[k][column];
    each_element([](float& held, float& element) { held = element; });
}

void multiply_add_bf16_fragments(void* const* operands) {
    const auto low = [](unsigned pair) { return std::bit_cast<float>(pair << 16); };
    const auto high = [](unsigned pair) { return std::bit_cast<float>(pair & 0xffff0000u); };
    float a[rows][16], b[16][columns];
    for (int lane = 0; lane < 32; ++lane) {
        const auto& operand = *static_cast<const MultiplyAddOperand*>(operands[lane]);
        const int group = lane / 4, place = 2 * (lane % 4);
        for (int i = 0; i < 4; ++i) {
            const int row = group + 8 * (i % 2), column = place + 8 * (i / 2);
            a[row][column] = low(operand.a[i]);
            a[row][column + 1] = high(operand.a[i]);
        }
        for (int i = 0; i < 2; ++i) {
            b[place + 8 * i][group] = low(operand.b[i]);
            b[place + 8 * i + 1][group] = high(operand.b[i]);
        }
    }
    multiply_add<16>(a, b, operands);
}

void multiply_add_tf32_fragments(void* const* operands) {
    // The instruction does not look at the lowest 13 bits.
    const auto operand_of = [](unsigned bits) { return std::bit_cast<float>(bits & ~0x1fffu); };
    float a[rows][8], b[8][columns];
    for (int lane = 0; lane < 32; ++lane) {
        const auto& operand = *static_cast<const MultiplyAddOperand*>(operands[lane]);
        const int group = lane / 4, place = lane % 4;
        for (int i = 0; i < 4; ++i) a[group + 8 * (i % 2)][place + 4 * (i / 2)] = operand_of(operand.a[i]);
        for (int i = 0; i < 2; ++i) b[place + 4 * i][group] = operand_of(operand.b[i]);
    }
    multiply_add<8>(a, b, operands);
}

}  // namespace

const char* name_of(Collective collective) {
    switch (collective) {
    case Collective::block_sync: return "block_sync";
    case Collective::warp_sync: return "warp_sync";
    case Collective::shuffle: return "shuffle";
    case Collective::shuffle_down: return "shuffle_down";
    case Collective::shuffle_xor: return "shuffle_xor";
    case Collective::ballot: return "ballot";
    case Collective::load_matrix_x4: return "load_matrix_x4";
    case Collective::load_matrix_x4_transposed: return "load_matrix_x4_transposed";
    case Collective::load_matrix_x2_transposed: return "load_matrix_x2_transposed";
    case Collective::multiply_add_bf16: return "multiply_add_bf16";
    case Collective::multiply_add_tf32: return "multiply_add_tf32";
    case Collective::barrier_wait: return "barrier_wait";
    case Collective::warpgroup_sync: return "warpgroup_sync";
    case Collective::products_wait: return "products_wait";
    }
    return "?";
}

void exchange(Collective collective, unsigned mask, void* const* operands) {
    switch (collective) {
    case Collective::block_sync:
    case Collective::warp_sync:
    case Collective::barrier_wait:
    case Collective::warpgroup_sync: return;
    case Collective::shuffle:
    case Collective::shuffle_down:
    case Collective::shuffle_xor: return exchange_shuffle(collective, mask, operands);
    case Collective::ballot: return exchange_ballot(mask, operands);
    case Collective::load_matrix_x4: return exchange_matrices(4, false, operands);
    case Collective::load_matrix_x4_transposed: return exchange_matrices(4, true, operands);
    case Collective::load_matrix_x2_transposed: return exchange_matrices(2, true, operands);
    case Collective::multiply_add_bf16: return multiply_add_bf16_fragments(operands);
    case Collective::multiply_add_tf32: return multiply_add_tf32_fragments(operands);
    case Collective::products_wait: {
        std::array<ProductQueue::Wait*, warp_size> lanes;
        for (std::size_t lane = 0; lane < warp_size; ++lane)
            lanes[lane] = static_cast<ProductQueue::Wait*>(operands[lane]);
        return ProductQueue::complete(lanes);
    }
    }
}

}  // namespace cover::cuda::emulated
