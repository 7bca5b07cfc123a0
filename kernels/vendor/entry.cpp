// The plug-in's one exported function. Nothing thrown leaves it: failures become sentences.
#include <cstring>
#include <mutex>

#include "kernels/vendor/cublas.h"
#include "kernels/vendor/cudnn.h"

namespace cover::vendor {
namespace {

void leave(Text* text, const std::string& sentence) {
    const std::size_t length = std::min(sentence.size(), sizeof text->characters - 1);
    std::memcpy(text->characters, sentence.data(), length);
    text->characters[length] = 0;
}

// A vendor's library, opened when it is first asked for; a failure is remembered, the search not repeated.
template <class Opened>
class Once {
public:
    Opened& get() {
        if (!opened_ && refusal_.empty()) {
            try {
                opened_ = std::make_unique<Opened>();
            } catch (const std::exception& failure) {
                refusal_ = failure.what();
            }
        }
        if (!opened_) throw Failure(refusal_);
        return *opened_;
    }

private:
    std::unique_ptr<Opened> opened_;
    std::string refusal_;
};

// Never destroyed: at the program's end the driver may already have gone.
Once<Cudnn>& cudnn() {
    static auto* const once = new Once<Cudnn>;
    return *once;
}
Once<Cublas>& cublas() {
    static auto* const once = new Once<Cublas>;
    return *once;
}

// One call at a time; false and a sentence when it throws.
template <class Body>
bool guarded(Text* text, const Body& body) {
    static std::mutex mutex;
    const std::lock_guard lock(mutex);
    try {
        body();
        return true;
    } catch (const std::exception& failure) {
        leave(text, failure.what());
        return false;
    }
}

bool open(Library library, Text* text) {
    return guarded(text,
                   [&] { leave(text, library == Library::cudnn ? cudnn().get().name() : cublas().get().name()); });
}

std::int64_t workspace(Library library, const Convolution* pass, Element* weight, Text* text) {
    std::int64_t bytes = 0;
    const bool done = guarded(text, [&] {
        bytes = library == Library::cudnn ? cudnn().get().workspace(*pass, *weight)
                                          : cublas().get().workspace(*pass, *weight);
    });
    return done ? bytes : -1;
}

bool run(Library library, const Convolution* pass, const Buffers* buffers, Text* text) {
    return guarded(text, [&] {
        if (library == Library::cudnn)
            cudnn().get().run(*pass, *buffers);
        else
            cublas().get().run(*pass, *buffers);
    });
}

void describe(Library library, const Convolution* pass, Text* text) {
    guarded(text, [&] { leave(text, library == Library::cudnn ? cudnn().get().describe(*pass) : ""); });
}

}  // namespace
}  // namespace cover::vendor

extern "C" __attribute__((visibility("default"))) const cover::vendor::Interface* cover_vendor_interface() {
    using namespace cover::vendor;
    static const Interface interface { interface_version, open, workspace, run, describe };
    return &interface;
}
