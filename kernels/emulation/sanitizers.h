// What a runtime of fibers has to tell the sanitizers. The functions are weak: they are there when the program is
// linked with the sanitizer, null otherwise, and nothing here depends on how this folder is compiled.
#pragma once

#include <cstddef>

extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack_save, const void* bottom, std::size_t size);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, std::size_t* old_size);
[[gnu::weak]] void __asan_poison_memory_region(const volatile void* at, std::size_t size);
[[gnu::weak]] void __asan_unpoison_memory_region(const volatile void* at, std::size_t size);

[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void __tsan_destroy_fiber(void* fiber);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* at);
[[gnu::weak]] void __tsan_release(void* at);
[[gnu::weak]] void AnnotateIgnoreReadsBegin(const char* file, int line);
[[gnu::weak]] void AnnotateIgnoreReadsEnd(const char* file, int line);
[[gnu::weak]] void AnnotateIgnoreWritesBegin(const char* file, int line);
[[gnu::weak]] void AnnotateIgnoreWritesEnd(const char* file, int line);
}

namespace cover::cuda::emulated {

inline bool address_sanitizer() { return __asan_poison_memory_region != nullptr; }
inline bool thread_sanitizer() { return __tsan_create_fiber != nullptr; }

inline void forbid_access(const void* at, std::size_t size) {
    if (address_sanitizer()) __asan_poison_memory_region(at, size);
}
inline void allow_access(const void* at, std::size_t size) {
    if (address_sanitizer()) __asan_unpoison_memory_region(at, size);
}

// The thread sanitizer's idea of who runs. Switching orders nothing.
inline void run_as(void* racer) {
    constexpr unsigned no_sync = 1;
    if (racer) __tsan_switch_to_fiber(racer, no_sync);
}
inline void release(void* at) {
    if (thread_sanitizer()) __tsan_release(at);
}
inline void acquire(void* at) {
    if (thread_sanitizer()) __tsan_acquire(at);
}

// While one lives, the thread sanitizer does not see what the runtime itself allocates, frees and fills on behalf of
// whichever thread happens to run.
class Unseen {
public:
    Unseen() {
        if (!thread_sanitizer()) return;
        AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
        AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    }
    ~Unseen() {
        if (!thread_sanitizer()) return;
        AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
        AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    }
    Unseen(const Unseen&) = delete;
    Unseen& operator=(const Unseen&) = delete;
};

}  // namespace cover::cuda::emulated
