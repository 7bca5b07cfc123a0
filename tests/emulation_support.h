// What the tests of the emulation share.
#pragma once

#include <functional>
#include <string>

#include "kernels/emulation/fiber_order.h"
#include "tests/support.h"

namespace cover::test {

inline void in_every_order(const std::function<void()>& check) {
    using namespace cuda::emulated;
    for (const FiberOrder order : {FiberOrder::forward, FiberOrder::reversed, FiberOrder::random}) {
        CAPTURE(static_cast<int>(order));
        const FiberOrderScope scope(order, 7);
        check();
    }
}

// The sentence with which the launch ends; empty when it does not fail.
inline std::string error_of(const std::function<void()>& launch_it) {
    try {
        launch_it();
    } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::device);
        return error.what();
    }
    return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace cover::test
