// Everything is done when its call returns: the wall clock serves.
#include <chrono>
#include <vector>

#include "kernels/cuda/device.h"

namespace cover::cuda::emulated {
namespace {

std::vector<std::chrono::steady_clock::time_point> moments;

}  // namespace

void mark(std::size_t slot) {
    if (moments.size() <= slot) moments.resize(slot + 1);
    moments[slot] = std::chrono::steady_clock::now();
}

double seconds_between(std::size_t from, std::size_t to) {
    require(from < moments.size() && to < moments.size(), ErrorKind::internal,
            "[emulated] a moment that was never marked");
    return std::chrono::duration<double>(moments[to] - moments[from]).count();
}

}  // namespace cover::cuda::emulated
