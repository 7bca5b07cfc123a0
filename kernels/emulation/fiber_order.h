// The order in which the threads of an emulated block run. A kernel that is right gives the same bits in every order.
#pragma once

#include <cstdint>

namespace cover::cuda::emulated {

enum class FiberOrder : std::uint8_t { forward, reversed, random };

// Of every later launch. The seed serves the random order alone, in which equal seeds give equal orders, whatever the
// number of OS threads. Until it is set, COVER_FIBER_ORDER=forward|reversed|random in the environment holds, otherwise
// forward; another word there is an Error(configuration) at the first launch.
void set_fiber_order(FiberOrder order, std::uint64_t seed = 0);

// Sets an order until the end of the scope.
class FiberOrderScope {
public:
    explicit FiberOrderScope(FiberOrder order, std::uint64_t seed = 0);
    ~FiberOrderScope();
    FiberOrderScope(const FiberOrderScope&) = delete;
    FiberOrderScope& operator=(const FiberOrderScope&) = delete;

private:
    int order_;
    std::uint64_t seed_;
};

}  // namespace cover::cuda::emulated
