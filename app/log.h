// log.jsonl: one JSON object per line, appended and visible at once. What a run says of itself, for people and
// programs.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace cover::app {

class Log {
public:
    // Appends to the file, creating it where needed. Throws Error(io).
    explicit Log(const std::string& path);
    ~Log();
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;

    // One line, handed to the system in one piece: a reader never sees half of it. A number that is not finite becomes
    // null, which JSON can say. Throws Error(io) when the disk is full.
    void write(const nlohmann::ordered_json& object);

private:
    std::string path_;
    int file_ = -1;
};

}  // namespace cover::app
