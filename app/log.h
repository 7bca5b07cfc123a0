// log.jsonl: one JSON object per line, appended and visible at once. What a run says of itself, for people and
// programs.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "app/run_log.h"

namespace cover::app {

class Log {
public:
    // Appends to the file, creating it where needed. Throws Error(io).
    explicit Log(const std::string& path);
    ~Log();
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;

    // One line, handed to the system in one piece: a reader never sees half of it, but where the disk is full. A number
    // that is not finite becomes null, which JSON can say. Lines that cannot be written wait in memory and are tried
    // again before the next one: a full disk must not end a run. Throws Error(io) when 64 MiB wait.
    void write(const nlohmann::ordered_json& object);
    // Why lines wait; empty when none does.
    const std::string& trouble() const { return trouble_; }
    // What was written lies on the disk. False, with trouble() set, when it does not.
    bool flush();
    // Bytes of the file; -1 while lines wait. What a checkpoint keeps, to cut the log there when a run goes on.
    std::int64_t bytes() const;
    // Throws Error(io) when lines still wait.
    void require_written() const;

private:
    void try_waiting();

    std::string path_, waiting_, trouble_;
    int file_ = -1;
};

// What log.jsonl says of the steps up to `last_step`.
struct LogHistory {
    RunLog log;
    double seconds = 0;               // of all steps, those that were rolled back included
    std::uint64_t bytes = 0;          // of what was read
    std::int64_t dropped_events = 0;  // behind that
};

// Reads up to `end`, where the log stood at a checkpoint of that step; without it, to the first line that tells of a
// later step. In either case not beyond a line that is no whole JSON object. A log that is not there is empty.
LogHistory read_log(const std::string& path, std::int64_t last_step, std::int64_t end = -1);

// Cuts the log behind history.bytes: the steps that follow are done again and log the same losses. Throws Error(io).
void cut_log(const std::string& path, const LogHistory& history);

}  // namespace cover::app
