#include "app/bench_peaks.h"

#include <immintrin.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "core/tensor.h"

namespace cover::app {
namespace {

constexpr std::int64_t rounds = 4'000'000;
constexpr int chains = 12;  // enough to hide the latency of two FMA units, and within sixteen registers

// Each returns a number that depends on every operation, so that none of them can be left out.
__attribute__((target("avx2,fma"))) float fma_avx2() {
    const __m256 a = _mm256_set1_ps(0.999f), b = _mm256_set1_ps(0.001f);
    __m256 sum[chains];
    for (int i = 0; i < chains; ++i) sum[i] = _mm256_set1_ps(static_cast<float>(i));
    for (std::int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) sum[i] = _mm256_fmadd_ps(sum[i], a, b);
    for (int i = 1; i < chains; ++i) sum[0] = _mm256_add_ps(sum[0], sum[i]);
    return _mm256_cvtss_f32(sum[0]);
}

__attribute__((target("avx512f"))) float fma_avx512() {
    const __m512 a = _mm512_set1_ps(0.999f), b = _mm512_set1_ps(0.001f);
    __m512 sum[chains];
    for (int i = 0; i < chains; ++i) sum[i] = _mm512_set1_ps(static_cast<float>(i));
    for (std::int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) sum[i] = _mm512_fmadd_ps(sum[i], a, b);
    for (int i = 1; i < chains; ++i) sum[0] = _mm512_add_ps(sum[0], sum[i]);
    return _mm512_cvtss_f32(sum[0]);
}

float multiply_add_plain() {
    float sum[chains];
    for (int i = 0; i < chains; ++i) sum[i] = static_cast<float>(i);
    for (std::int64_t r = 0; r < rounds; ++r)
#pragma GCC unroll 12
        for (int i = 0; i < chains; ++i) sum[i] = sum[i] * 0.999f + 0.001f;
    for (int i = 1; i < chains; ++i) sum[0] += sum[i];
    return sum[0];
}

template <class Work>
double best_seconds(int repeats, Work work) {
    double best = HUGE_VAL;
    for (int i = 0; i < repeats; ++i) {
        const auto start = std::chrono::steady_clock::now();
        work();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}

}  // namespace

double fma_peak_gflops(Stream& stream) {
    const auto& facts = *stream.facts;
    const int lanes = facts.avx512 ? 16 : facts.avx2 ? 8 : 1;
    float (*const work)() = facts.avx512 ? fma_avx512 : facts.avx2 ? fma_avx2 : multiply_add_plain;
    const int threads = stream.pool->threads();
    std::vector<float> sink(static_cast<std::size_t>(threads) * 16);
    const double seconds = best_seconds(5, [&] {
        stream.parallel(threads, [&](std::int64_t task) { sink[static_cast<std::size_t>(task) * 16] = work(); });
    });
    return 2.0 * lanes * chains * static_cast<double>(rounds) * threads / seconds / 1e9;
}

double memory_peak_gigabytes(Stream& stream) {
    constexpr std::int64_t count = std::int64_t{1} << 26, tasks = 64, piece = count / tasks;  // 256 MiB each
    const Tensor source = Tensor::zeros({count});
    Tensor target = Tensor::zeros({count});
    const auto* from = source.data<float>();
    auto* to = target.data<float>();
    const double copy = best_seconds(5, [&] {
        stream.parallel(tasks, [&](std::int64_t task) {
            std::memcpy(to + task * piece, from + task * piece, piece * sizeof(float));
        });
    });
    const double add = best_seconds(5, [&] {
        stream.parallel(tasks, [&](std::int64_t task) {
            for (std::int64_t i = task * piece; i < (task + 1) * piece; ++i) to[i] += from[i];
        });
    });
    return std::max(2 / copy, 3 / add) * static_cast<double>(count) * sizeof(float) / 1e9;
}

}  // namespace cover::app
