#include "data/loader.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <numeric>
#include <thread>

#include "core/check.h"
#include "core/rng.h"

namespace cover {

struct SampleOrder::Cache {
    std::mutex mutex;
    // Batches in flight touch neighbouring epochs only; the oldest make room.
    std::map<std::uint32_t, std::shared_ptr<const std::vector<std::int64_t>>> epochs;
};

SampleOrder::SampleOrder(std::vector<std::int64_t> indices, std::uint64_t seed)
    : indices_(std::move(indices)), seed_(seed), cache_(std::make_shared<Cache>()) {
    require(!indices_.empty(), ErrorKind::data, "[loader] there is no sample to draw from");
}

std::vector<std::int64_t> SampleOrder::epoch(std::uint32_t number) const {
    std::vector<std::int64_t> order = indices_;
    RandomStream random({seed_, number, 0, Purpose::order, 0});
    for (std::int64_t i = static_cast<std::int64_t>(order.size()) - 1; i > 0; --i)
        std::swap(order[static_cast<std::size_t>(i)], order[static_cast<std::size_t>(random.below(i + 1))]);
    return order;
}

SampleId SampleOrder::at(std::int64_t position) const {
    const auto count = static_cast<std::int64_t>(indices_.size());
    const auto number = static_cast<std::uint32_t>(position / count);
    std::shared_ptr<const std::vector<std::int64_t>> order;
    {
        const std::lock_guard lock(cache_->mutex);
        auto& slot = cache_->epochs[number];
        if (!slot) slot = std::make_shared<const std::vector<std::int64_t>>(epoch(number));
        order = slot;
        while (cache_->epochs.size() > 8) cache_->epochs.erase(cache_->epochs.begin());
    }
    return {number, (*order)[static_cast<std::size_t>(position % count)]};
}

namespace {

std::vector<std::int64_t> all_or(const std::vector<std::int64_t>& indices, std::int64_t count) {
    if (!indices.empty()) return indices;
    std::vector<std::int64_t> all(static_cast<std::size_t>(count));
    std::iota(all.begin(), all.end(), std::int64_t{0});
    return all;
}

double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

struct Loader::State {
    struct Slot {
        Batch batch;
        std::int64_t step = -1;  // whose images it holds or waits for
        std::int64_t left = 0;   // samples that are not read yet
        std::vector<std::exception_ptr> errors;
    };

    PatchFile patches;
    LoaderOptions options;
    SampleOrder order;
    std::int64_t sample_elements;

    std::mutex mutex;
    std::condition_variable work, done;
    std::vector<Slot> ring;
    std::int64_t next_step;    // that the caller takes
    std::int64_t next_sample;  // position that the next free thread takes
    bool stopping = false;
    std::vector<std::thread> threads;

    State(PatchFile p, const LoaderOptions& o)
        : patches(std::move(p)), options(o), order(all_or(o.indices, patches.sample_count()), o.seed) {
        require(options.batch >= 1, ErrorKind::configuration, "[loader] a batch of ", options.batch, " samples");
        require(options.start_step >= 0, ErrorKind::configuration, "[loader] a start at step ", options.start_step);
        require(options.threads >= 0 && options.threads <= 256, ErrorKind::configuration, "[loader] ", options.threads,
                " loader threads; 0 to 256 are possible");
        require(options.ring >= 1, ErrorKind::configuration, "[loader] a ring of ", options.ring, " batches");
        for (const std::int64_t i : options.indices)
            require(i >= 0 && i < patches.sample_count(), ErrorKind::configuration, "[loader] there is no sample ", i,
                    " among ", patches.sample_count());
        sample_elements = patches.grid().pixels() * patches.channels();
        next_step = options.start_step;
        next_sample = next_step * options.batch;
        ring.resize(static_cast<std::size_t>(options.threads == 0 ? 1 : options.ring));
    }

    Batch empty_batch(std::int64_t step) const {
        const Grid grid = patches.grid();
        Batch batch;
        batch.step = step;
        batch.images = Tensor::empty({options.batch, grid.d, grid.h, grid.w, patches.channels()});
        batch.samples.resize(static_cast<std::size_t>(options.batch));
        return batch;
    }

    void read(Batch& batch, std::int64_t b) const {
        const SampleId id = order.at(batch.step * options.batch + b);
        batch.samples[static_cast<std::size_t>(b)] = id;
        patches.read_sample(id.index, batch.images.data<float>() + b * sample_elements);
    }

    Slot& slot_of(std::int64_t step) { return ring[static_cast<std::size_t>(step) % ring.size()]; }

    void stop() {
        {
            const std::lock_guard lock(mutex);
            stopping = true;
        }
        work.notify_all();
        for (std::thread& thread : threads) thread.join();
    }

    void serve() {
        std::unique_lock lock(mutex);
        for (;;) {
            work.wait(lock, [&] {
                return stopping || next_sample / options.batch < next_step + static_cast<std::int64_t>(ring.size());
            });
            if (stopping) return;
            const std::int64_t step = next_sample / options.batch, b = next_sample % options.batch;
            ++next_sample;
            Slot& slot = slot_of(step);
            std::exception_ptr error;
            if (slot.step != step) {
                // The first sample of a step prepares its place.
                slot.step = step;
                slot.left = options.batch;
                slot.errors.assign(static_cast<std::size_t>(options.batch), nullptr);
                try {
                    slot.batch = empty_batch(step);
                } catch (...) {
                    error = std::current_exception();
                    slot.batch = Batch();
                    slot.batch.step = step;
                }
            }
            const bool usable = slot.batch.images.defined();
            lock.unlock();
            if (usable && !error) {
                try {
                    read(slot.batch, b);
                } catch (...) {
                    error = std::current_exception();
                }
            }
            lock.lock();
            slot.errors[static_cast<std::size_t>(b)] = error;
            if (--slot.left == 0) done.notify_all();
        }
    }
};

Loader::Loader(PatchFile patches, const LoaderOptions& options)
    : state_(std::make_unique<State>(std::move(patches), options)) {
    try {
        for (int i = 0; i < options.threads; ++i) state_->threads.emplace_back([this] { state_->serve(); });
    } catch (const std::system_error& error) {
        state_->stop();
        fail(ErrorKind::device, text("[loader] the system gives no ", options.threads, " threads (", error.what(),
                                     "); use --loader-threads 0"));
    }
}

Loader::~Loader() { state_->stop(); }

Batch Loader::next() {
    State& s = *state_;
    const double begin = seconds();
    if (s.options.threads == 0) {
        Batch batch = s.empty_batch(s.next_step);
        for (std::int64_t b = 0; b < s.options.batch; ++b) s.read(batch, b);
        ++s.next_step;
        batch.waited = seconds() - begin;
        return batch;
    }
    std::unique_lock lock(s.mutex);
    State::Slot& slot = s.slot_of(s.next_step);
    s.done.wait(lock, [&] { return slot.step == s.next_step && slot.left == 0; });
    for (const std::exception_ptr& error : slot.errors)
        if (error) std::rethrow_exception(error);
    Batch batch = std::move(slot.batch);
    slot.batch = Batch();
    ++s.next_step;
    lock.unlock();
    s.work.notify_all();
    batch.waited = seconds() - begin;
    return batch;
}

}  // namespace cover
