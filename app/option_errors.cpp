#include "app/option_errors.h"

#include <algorithm>

#include "core/check.h"

namespace cover::app {
namespace {

// The option that CLI11's message is about: the longest name that stands in it as a whole word.
const CLI::Option* option_in(const std::string& message, const CLI::App& parser) {
    const CLI::Option* found = nullptr;
    std::size_t longest = 0;
    for (const auto* option : parser.get_options()) {
        const auto name = option->get_name();
        const auto at = message.find(name);
        if (name.empty() || at == std::string::npos || name.size() <= longest) continue;
        const auto end = at + name.size();
        const bool whole = end == message.size() || message[end] == ':' || message[end] == ' ';
        if (!whole) continue;
        found = option;
        longest = name.size();
    }
    return found;
}

std::string usage_of(const CLI::Option& option) {
    const auto type = option.get_type_name();
    return type.empty() ? option.get_name() : option.get_name() + " " + type;
}

}  // namespace

std::string sentence_of(const CLI::ParseError& error, const std::string& command, const CLI::App& parser) {
    const std::string message = error.what();
    const std::string help = text("; `cover ", command, command.empty() ? "" : " ", "--help` shows examples");
    const std::string place = text("[", command.empty() ? "cover" : command, "] ");
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr)
        return text(place, "'", message.substr(std::min(message.rfind(": ") + 2, message.size())),
                    "' belongs to no command or option", help);
    if (const auto end = message.find(" was given a disallowed flag override"); end != std::string::npos)
        return text(place, "--", message.substr(0, end), ": is a switch and takes no value; give it alone", help);
    const auto* option = option_in(message, parser);
    if (!option) return text(place, "the command line cannot be read: ", message, help);
    const std::string where = text(place, option->get_name(), ": ");
    const bool flag = option->get_expected_max() == 0;
    if (dynamic_cast<const CLI::ConversionError*>(&error) != nullptr) {
        if (flag) return text(where, "is a switch and takes no value; give it alone", help);
        const auto& words = option->results();
        if (!words.empty() && words.back().rfind("--", 0) == 0)
            return text(where, "its value is missing, '", words.back(), "' follows at once; write ", usage_of(*option),
                        help);
        const bool number = option->get_type_name() == "N" || option->get_type_name() == "X";
        return text(where, "'", words.empty() ? std::string() : words.back(), "' is no ",
                    option->get_type_name() == "N" ? "whole number in range"
                    : number                       ? "number"
                                                   : "value for it",
                    "; write ", usage_of(*option), help);
    }
    if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr) {
        if (flag) return text(where, "is a switch and takes no value; give it alone", help);
        if (message.find("missing") != std::string::npos || option->results().empty())
            return text(where, "its value is missing; write ", usage_of(*option), help);
        return text(where, "was given more than once and takes one value; keep one of them", help);
    }
    const auto prefix = option->get_name() + ": ";
    return text(where, message.rfind(prefix, 0) == 0 ? message.substr(prefix.size()) : message, help);
}

}  // namespace cover::app
