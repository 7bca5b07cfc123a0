// One table of variants per op. A row is one kernel: its name, where and on what it runs, and whether it can serve a
// request. Dispatch, tests and the benchmark read the same table, so a new kernel is one row.
#pragma once

#include <chrono>
#include <map>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/check.h"
#include "core/device.h"
#include "core/dtype.h"
#include "core/parallel.h"
#include "core/view.h"

namespace cover {

// exact: multiplies in the storage type (bfloat16 accumulates in float32). tf32: float32 operands rounded to 10 bits.
enum class Math : std::uint8_t { exact, tf32 };

// Row names forced by --kernel OP:ROW or COVER_KERNEL, by op name. "conv:ROW" sets each conv table that has ROW.
struct KernelSelection {
    std::map<std::string, std::string> rows;
};

// What each row of each op has cost, by "op:row". Times are those of the caller.
struct KernelProfile {
    struct Entry {
        std::int64_t calls = 0;
        double seconds = 0;
        double bytes = 0;  // of all arguments: what a pass must read and write at least
    };
    std::map<std::string, Entry> entries;
};

// Where work is done. Passed by reference as the last argument of every kernel; owns nothing.
struct Stream {
    Device device = Device::cpu;
    ThreadPool* pool = nullptr;                   // required on the CPU
    const DeviceFacts* facts = &machine_facts();  // what rows may assume
    const KernelSelection* selection = nullptr;   // null: the tables' own preference
    Math math = Math::exact;
    bool fuse = true;                  // ops may leave work to those that read their result (kernels/fused_conv.h)
    void* native = nullptr;            // the CUDA stream on a device
    KernelProfile* profile = nullptr;  // null: nothing is timed
    void (*wait)() = nullptr;  // until the device has done all that is queued; for the profile. Null on the host
    // Around every row, for a profiler's time line; null where there is none.
    void (*enter_range)(const char* name) = nullptr;
    void (*leave_range)() = nullptr;

    void parallel(std::int64_t tasks, const std::function<void(std::int64_t)>& body) { pool->run(tasks, body); }
};

// The same threads for work on the host, for whose rows a selection made for another device does not speak.
inline Stream host_stream(const Stream& stream) {
    if (stream.device == Device::cpu) return stream;
    Stream host;
    host.pool = stream.pool;
    return host;
}

template <class Params, class Run>
struct Variant {
    const char* name;  // "ref", "cpu_avx2", "cuda_3_register"
    Device device;
    DType dtype;  // of activations
    Math math;
    bool (*can_run)(const Params&, const DeviceFacts&);
    Run* run;
    bool proven = false;        // on a CUDA device, by its checks there (docs/gpu-status.md); of no meaning elsewhere
    bool by_name_only = false;  // never a table's own preference: something to be compared with
    // Of rows that need more than the machine: why can_run says no, a sentence. May be null.
    std::string (*why_not)(const Params&, const DeviceFacts&) = nullptr;
};

template <class Params>
bool always(const Params&, const DeviceFacts&) {
    return true;
}
template <class Params>
bool needs_avx2(const Params&, const DeviceFacts& facts) {
    return facts.avx2;
}
template <class Params>
bool needs_avx512(const Params&, const DeviceFacts& facts) {
    return facts.avx512;
}

// A stretch of a profiler's time line.
class Range {
public:
    Range(const Stream& stream, const char* name) : leave_(stream.leave_range) {
        if (stream.enter_range) stream.enter_range(name);
    }
    ~Range() {
        if (leave_) leave_();
    }
    Range(const Range&) = delete;
    Range& operator=(const Range&) = delete;

private:
    void (*leave_)();
};

// A row that was selected for an op: the row itself, and run() with its time noted where the stream has a profile.
template <class Params, class Run>
struct Selected : Variant<Params, Run> {
    const char* op;
    const Stream* stream;

    template <class... Arguments>
    void run(Arguments&&... arguments) const {
        const Range range(*stream, op);
        KernelProfile* const profile = stream->profile;
        if (!profile) return Variant<Params, Run>::run(std::forward<Arguments>(arguments)...);
        if (stream->wait) stream->wait();
        const auto start = std::chrono::steady_clock::now();
        Variant<Params, Run>::run(arguments...);
        if (stream->wait) stream->wait();
        auto& entry = profile->entries[text(op, ":", this->name)];
        entry.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        entry.bytes += (bytes_of(arguments) + ...);
        ++entry.calls;
    }

private:
    template <class Argument>
    static double bytes_of(const Argument& argument) {
        if constexpr (std::is_convertible_v<Argument, ConstView>) {
            const ConstView view = argument;
            return view ? static_cast<double>(view.count) * static_cast<double>(size_of(view.dtype)) : 0.0;
        } else if constexpr (requires { argument.bytes(); }) {
            return argument.bytes();
        } else {
            return 0.0;
        }
    }
};

// The row's name that a selection asks for; null: none.
inline const std::string* wanted_row(const char* op, const Stream& stream) {
    if (!stream.selection) return nullptr;
    const auto it = stream.selection->rows.find(op);
    return it == stream.selection->rows.end() ? nullptr : &it->second;
}

// Whether the row is one of those that a request of this type on this stream chooses from, whatever its shape.
template <class Params, class Run>
bool is_candidate(const Variant<Params, Run>& row, const std::string* wanted, DType dtype, const Stream& stream) {
    return row.device == stream.device && row.dtype == dtype && (row.math == Math::exact || row.math == stream.math) &&
           (wanted ? *wanted == row.name : !row.by_name_only);
}

// Rows stand from the simplest to the fastest: the last one that can run is taken, unless the selection names another.
// On a CUDA device a row that has not been proven there is taken only where none stands before it. A stream that allows
// TF32 takes exact rows as well, for ops that have no other. Rows that are there by name only are taken when the
// selection names them. A named row that does not exist or cannot run is an error that says so, never a silent
// replacement.
template <class Params, class Run>
Selected<Params, Run> select(const char* op, std::span<const Variant<Params, Run>> table, const Params& params,
                             DType dtype, const Stream& stream) {
    const std::string* const wanted = wanted_row(op, stream);
    const Variant<Params, Run>* best = nullptr;
    std::string reason;
    for (const auto& row : table) {
        if (!is_candidate(row, wanted, dtype, stream)) continue;
        if (!row.can_run(params, *stream.facts)) {
            if (wanted && row.why_not) reason = row.why_not(params, *stream.facts);
            continue;
        }
        if (best && stream.device == Device::cuda && !row.proven) continue;
        best = &row;
    }
    if (!best) {
        require(reason.empty(), ErrorKind::device, reason);
        std::string rows;
        for (const auto& row : table)
            rows += text(" ", row.name, "(", name_of(row.device), ",", name_of(row.dtype), ")");
        fail(wanted ? ErrorKind::configuration : ErrorKind::device,
             text("[", op, "] ",
                  wanted ? text("row '", *wanted, "' does not exist or cannot run here for ") : "no row for ",
                  name_of(dtype), " on ", name_of(stream.device), "; the rows are:", rows));
    }
    return {*best, op, &stream};
}

// Joins the rows of several folders into one table.
template <class Row>
std::vector<Row> join(std::initializer_list<std::span<const Row>> parts) {
    std::vector<Row> table;
    for (const auto& part : parts) table.insert(table.end(), part.begin(), part.end());
    return table;
}

inline void require_view(const char* op, const char* name, const ConstView& v, DType dtype, std::int64_t count) {
    require(v.data != nullptr && v.dtype == dtype && v.count == count, ErrorKind::internal, "[", op, "] ", name,
            ": expected ", count, " elements of ", name_of(dtype), ", got ", v.count, " of ", name_of(v.dtype),
            v.data ? "" : " (undefined)");
}

// For outputs that a caller may leave out.
inline void require_view_if(const char* op, const char* name, const ConstView& v, DType dtype, std::int64_t count) {
    if (v) require_view(op, name, v, dtype, count);
}

}  // namespace cover
