#include "app/options.h"
#include "core/check.h"
#include "tests/support.h"

namespace cover::app {
namespace {

Command parse(std::vector<const char*> words) {
    words.insert(words.begin(), "cover");
    return parse_command_line(static_cast<int>(words.size()), words.data());
}

// The sentence of a usage error; empty when the line is accepted.
std::string refusal(std::vector<const char*> words) {
    try {
        parse(std::move(words));
    } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::usage);
        return error.what();
    }
    return "";
}

bool contains(const std::string& sentence, const std::string& part) {
    const bool found = sentence.find(part) != std::string::npos;
    if (!found) MESSAGE("'", sentence, "' does not say '", part, "'");
    return found;
}

}  // namespace

TEST_CASE("options: every command has help with examples") {
    for (const auto& words : std::vector<std::vector<const char*>>{{"--help"},
                                                                   {"demo", "--help"},
                                                                   {"prepare", "--help"},
                                                                   {"pretrain", "--help"},
                                                                   {"evaluate", "--help"},
                                                                   {"export", "--help"},
                                                                   {"verify", "golden", "--help"},
                                                                   {"bench", "step", "--help"},
                                                                   {"bench", "ops", "--help"},
                                                                   {"info", "--help"}}) {
        const auto text = std::get<TextOptions>(parse(words)).text;
        CHECK(contains(text, "Examples:"));
        CHECK(contains(text, "  cover "));
        CHECK(contains(text, "Usage: cover"));
    }
    CHECK(contains(std::get<TextOptions>(parse({"--version"})).text, "cover "));
}

TEST_CASE("options: an unknown command or option names the nearest") {
    CHECK(contains(refusal({"pretrian"}), "'pretrain'"));
    CHECK(contains(refusal({"verify", "goldne"}), "'golden'"));
    CHECK(contains(refusal({"bench", "stp"}), "'step'"));
    CHECK(contains(refusal({"--versoin"}), "'--version'"));
    CHECK(contains(refusal({"pretrain", "--data", "a.h5", "--out", "r", "--bacth", "3"}), "'--batch'"));
    CHECK(contains(refusal({"pretrain", "--weight-decy=3"}), "'--weight-decay'"));
    CHECK(contains(refusal({"prepare", "a.png", "--out", "b.h5", "--szie", "96"}), "'--size'"));
    CHECK(contains(refusal({"bench", "step", "--pach", "64"}), "'--patch'"));
}

TEST_CASE("options: what is missing or belongs nowhere is a usage error") {
    CHECK(contains(refusal({}), "command"));
    CHECK(contains(refusal({"bench"}), "bench"));
    CHECK(contains(refusal({"prepare"}), "input"));
    CHECK(contains(refusal({"prepare", "a.png"}), "--out"));
    CHECK(contains(refusal({"pretrain", "--data", "a.h5"}), "--out"));
    CHECK(contains(refusal({"evaluate", "--weights", "w"}), "--data"));
    CHECK(contains(refusal({"export", "run"}), "--out"));
    CHECK(contains(refusal({"export", "run", "--out", "w", "--part", "bckbone"}), "'backbone'"));
    CHECK(!refusal({"pretrain", "stray", "--data", "a.h5", "--out", "r"}).empty());
    CHECK(!refusal({"bench", "step", "--steps", "many"}).empty());
    CHECK(!refusal({"bench", "step", "--steps", "0"}).empty());
    CHECK(!refusal({"pretrain", "--data", "a.h5", "--out", "r", "--lr"}).empty());
    CHECK(!refusal({"pretrain", "--data", "a.h5", "--out", "r", "--lr", "1", "--lr", "2"}).empty());
}

TEST_CASE("options: every refusal says where, why and what to do") {
    for (const auto& words : std::vector<std::vector<const char*>>{{},
                                                                   {"bench"},
                                                                   {"verify"},
                                                                   {"bench", "stp"},
                                                                   {"bench", "--stp"},
                                                                   {"--version", "x"},
                                                                   {"demo", "--", "x"},
                                                                   {"demo", "extra"},
                                                                   {"demo", "--seed", "-1"},
                                                                   {"demo", "--threads", "-4"},
                                                                   {"export"},
                                                                   {"export", "a", "b", "--out", "c"},
                                                                   {"info", "a", "b"},
                                                                   {"evaluate", "--pairs", "1e99"},
                                                                   {"evaluate", "--weights", "--data", "x"},
                                                                   {"prepare", "a", "--channels-in", "x"},
                                                                   {"pretrain", "--out"},
                                                                   {"pretrain", "--out", "a", "--out", "b"},
                                                                   {"pretrain", "--data", "--out", "r"},
                                                                   {"pretrain", "--lr"},
                                                                   {"pretrain", "--lr", "1", "--lr", "2"},
                                                                   {"pretrain", "--set"},
                                                                   {"bench", "step", "--steps", "many"},
                                                                   {"bench", "step", "--steps="},
                                                                   {"bench", "step", "--json=3"},
                                                                   {"bench", "ops", "--seconds", "nan"},
                                                                   {"verify", "golden"}}) {
        const std::string sentence = refusal(words);
        CHECK_MESSAGE(sentence.rfind("[", 0) == 0, sentence);
        CHECK_MESSAGE(sentence.find("; ") != std::string::npos, sentence);
        // The parser's own wording is not passed on.
        for (const char* raw : {"required", "received", "Could not", "not expected", "At Most", "disallowed"})
            CHECK_MESSAGE(sentence.find(raw) == std::string::npos, sentence);
    }
    CHECK(contains(refusal({"bench", "step", "--steps", "many"}), "'many' is no whole number"));
    CHECK(contains(refusal({"pretrain", "--lr"}), "--lr: its value is missing; write --lr X"));
    CHECK(contains(refusal({"pretrain", "--lr", "1", "--lr", "2"}), "more than once"));
    CHECK(contains(refusal({"pretrain", "--out", "--steps", "3"}), "--out: its value is missing, '--steps' follows"));
    CHECK(contains(refusal({"bench", "step", "--json=3"}), "--json: is a switch"));
    CHECK(contains(std::get<TextOptions>(parse({"help", "bench", "step"})).text, "Usage: cover bench step"));
}

TEST_CASE("options: what a later version brings says so") {
    for (const auto& words : std::vector<std::vector<const char*>>{{"finetune"}})
        CHECK(contains(refusal(words), "this version"));
    CHECK(std::get<TextOptions>(parse({"--help"})).text.find("finetune") == std::string::npos);
    CHECK(contains(std::get<TextOptions>(parse({"pretrain", "--help"})).text, "--resume"));
    CHECK(std::get<PretrainOptions>(parse({"pretrain", "--out", "r", "--resume"})).resume);
    CHECK(contains(refusal({"pretrain", "--out", "r", "--allow-other-kernels"}), "--resume"));
}

TEST_CASE("options: values reach their command") {
    const auto apply =
        std::get<ApplyOptions>(parse({"apply", "a.png", "b.png", "--weights", "w", "--what", "rgb", "--out", "o",
                                      "--tile", "64x96", "--overwrite", "--threads", "3"}));
    CHECK(apply.inputs == std::vector<std::string>{"a.png", "b.png"});
    CHECK(apply.what == "rgb");
    CHECK(apply.tile == "64x96");
    CHECK(apply.overwrite);
    CHECK(!apply.json);
    CHECK(resolve_config(apply.config).threads == 3);
    for (const char* missing : {"--weights", "--what", "--out"}) {
        std::vector<const char*> words{"apply", "a.png"};
        for (const char* option : {"--weights", "--what", "--out"})
            if (std::string(option) != missing) words.insert(words.end(), {option, "rgb"});
        CHECK(contains(refusal(words), missing));
    }
    const auto pretrain = std::get<PretrainOptions>(
        parse({"pretrain", "--data", "a.h5", "b.h5", "--out", "run", "--patch", "64x96", "--elastic", "--kernel",
               "conv:ref", "--kernel", "warp:ref", "--set", "momentum=0.5", "--lr=1e-3"}));
    CHECK(pretrain.out == "run");
    CHECK(pretrain.config.settings == std::vector<std::string>{"momentum=0.5"});
    const auto config = resolve_config(pretrain.config);
    CHECK(config.data == std::vector<std::string>{"a.h5", "b.h5"});
    CHECK(config.patch == std::array<std::int64_t, 3>{1, 64, 96});
    CHECK(config.elastic);
    CHECK(config.kernel == std::vector<std::string>{"conv:ref", "warp:ref"});
    CHECK(config.lr == 1e-3);
    CHECK(config.momentum == 0.5);

    const auto prepare = std::get<PrepareOptions>(
        parse({"prepare", "a.png", "dir", "--out", "o.h5", "--window", "-1000,400", "--strict"}));
    CHECK(prepare.inputs == std::vector<std::string>{"a.png", "dir"});
    CHECK(prepare.window == "-1000,400");
    CHECK(prepare.strict);

    const auto step = std::get<BenchStepOptions>(parse(
        {"bench", "step", "--dims", "3", "--patch", "48", "--batch", "1", "--threads", "2", "--steps", "9", "--json"}));
    CHECK(step.steps == 9);
    CHECK(step.json);
    CHECK(resolve_config(step.config).dims == 3);
    CHECK(resolve_config(step.config).threads == 2);

    const auto golden = std::get<VerifyGoldenOptions>(
        parse({"verify", "golden", "g.h5", "--warp", "reference", "--precision", "fp64"}));
    CHECK(golden.warp_given);
    CHECK(resolve_config(golden.config).precision == Precision::fp64);
    CHECK(!std::get<VerifyGoldenOptions>(parse({"verify", "golden", "g.h5"})).warp_given);
}

}  // namespace cover::app
