// CLI11's parse errors as sentences of this program: what, where, why and what to do. Only options.cpp includes this.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace cover::app {

// command: "bench step"; parser: the CLI11 app of that command, whose options tell what a value looks like.
std::string sentence_of(const CLI::ParseError& error, const std::string& command, const CLI::App& parser);

}  // namespace cover::app
