#include "app/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <deque>
#include <functional>
#include <map>

#include "app/option_errors.h"
#include "app/version.h"
#include "core/check.h"
#include "core/nearest.h"

namespace cover::app {
namespace {

// Commands and options that the documents promise and a later version brings.
const std::map<std::string, std::string> later_commands{
    {"finetune", "fine-tuning on a downstream task"},
};

// CLI11 lets "-1" become the largest unsigned number.
std::string not_negative(const std::string& word) {
    return word.rfind('-', 0) == 0 ? "'" + word + "' is negative; 0 or more is needed" : std::string();
}

[[noreturn]] void usage(const std::string& sentence) { fail(ErrorKind::usage, sentence); }

// One command while it is being parsed: CLI11's view of it, and what becomes of it when it was the one.
class CommandParser {
public:
    CommandParser(CLI::App& parent, const std::string& name, const std::string& what, const std::string& examples)
        : app(parent.add_subcommand(name, what)), name_(full_name(parent, name)) {
        app->footer("Examples:\n" + examples);
        // Left-overs are ours to judge: CLI11 would not name the nearest option.
        app->allow_extras();
        app->option_defaults()->disable_flag_override();
    }

    CLI::App* app;
    std::function<Command()> result;

    const std::string& name() const { return name_; }

    // Registers the option of each key; take() then tells which were given.
    void add_keys(const std::vector<std::string>& keys) {
        for (const auto& name : keys) add_key(*find_key(name));
    }
    void add_all_keys() {
        for (const auto& key : config_keys())
            if (!key.group.empty()) add_key(key);
    }
    std::vector<std::pair<std::string, Values>> take() const {
        std::vector<std::pair<std::string, Values>> given;
        for (const auto& [key, option] : key_options_)
            if (option->count() > 0) given.emplace_back(key->name, option->results());
        return given;
    }

    void require_value(bool given, const std::string& what) const {
        if (!given) usage(text("[", name_, "] ", what, " is missing; `cover ", name_, " --help` shows examples"));
    }

    void refuse_extras() const {
        // CLI11 takes the next word as an option's value whatever it looks like.
        for (const auto* option : app->get_options())
            for (const auto& value : option->results())
                if (value.size() > 2 && value.rfind("--", 0) == 0)
                    usage(text("[", name_, "] ", option->get_name(), ": its value is missing, '", value,
                               "' follows at once; `cover ", name_, " --help` shows examples"));
        for (const auto& word : app->remaining()) {
            if (word.rfind('-', 0) != 0 || word == "-")
                usage(text("[", name_, "] '", word, "' belongs to no option; `cover ", name_, " --help` lists them"));
            const auto bare = word.substr(0, word.find('='));
            std::vector<std::string> names;
            for (const auto* option : app->get_options())
                for (const auto& known : option->get_lnames()) names.push_back("--" + known);
            usage(text("[", name_, "] there is no option '", bare, "'", nearest_hint(bare, names), "; `cover ", name_,
                       " --help` lists them all"));
        }
    }

private:
    static std::string full_name(const CLI::App& parent, const std::string& name) {
        return parent.get_parent() ? parent.get_name() + " " + name : name;
    }

    void add_key(const ConfigKey& key) {
        CLI::Option* option = nullptr;
        values_.emplace_back();
        if (key.is_flag()) {
            flags_.emplace_back();
            option = app->add_flag(key.option(), flags_.back(), key.help)->disable_flag_override(false);
        } else {
            option = app->add_option(key.option(), values_.back(), key.help)->type_name(key.placeholder);
            if (key.name != "data") option->allow_extra_args(false);
            if (key.name != "data" && key.name != "kernel")
                option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::Throw);
        }
        option->group(key.group);
        key_options_.emplace_back(&key, option);
    }

    std::string name_;
    std::deque<Values> values_;  // stable addresses for CLI11
    std::deque<bool> flags_;
    std::vector<std::pair<const ConfigKey*, CLI::Option*>> key_options_;
};

using Parsers = std::deque<CommandParser>;

CommandParser& add(Parsers& parsers, CLI::App& parent, const char* name, const char* what, const char* examples) {
    return parsers.emplace_back(parent, name, what, examples);
}

void add_demo(Parsers& parsers, CLI::App& root, DemoOptions& o) {
    auto& p = add(parsers, root, "demo", "the whole of it on sample images, in a few minutes",
                  "  cover demo\n  cover demo --dims 3\n  cover demo --out my-demo --threads 2\n");
    p.app->add_option("--out", o.out, "folder for everything that it makes (cover-demo, in 3D cover-demo-3d)")
        ->type_name("DIR");
    p.app->add_option("--dims", o.dims, "2: chest X-rays; 3: MR volumes of the hippocampus (2)")->type_name("2|3");
    p.app->add_option("--threads", o.threads, "threads that compute (all cores)")->type_name("N");
    p.app->add_option("--seed", o.seed, "key of every random number (0)")->type_name("N")->check(not_negative);
    p.result = [&o] {
        if (o.threads < 0) usage(text("[demo] --threads: is ", o.threads, "; 0 (all cores) or more is needed"));
        return Command(o);
    };
}

void add_prepare(Parsers& parsers, CLI::App& root, PrepareOptions& o) {
    auto& p = add(parsers, root, "prepare", "images, volumes and folders of them -> one patch file",
                  "  cover prepare xrays/ --out xrays.h5\n"
                  "  cover prepare a.png b.jpg --size 192 --store uint16 --out two.h5\n"
                  "  cover prepare images/ --labels masks/ --split train --out train.h5\n"
                  "  cover prepare scans/ --spacing 1 --size 96x96x96 --out scans.h5\n"
                  "  cover prepare ct.nii.gz --normalize ct --window -1000,400 --out ct.h5\n");
    p.app->add_option("INPUT", o.inputs, "PNG, JPEG, NIfTI or HDF5 files, or folders of them")->type_name("");
    p.app->add_option("--out", o.out, "patch file to write")->type_name("FILE.h5");
    p.app
        ->add_option("--size", o.size,
                     "sides to store, as in 576 or 96x96x96 (pictures 576, stretched; others as they are)")
        ->type_name("S|DxHxW");
    p.app->add_option("--spacing", o.spacing, "resample volumes to this many mm per voxel")->type_name("X[,Y,Z]");
    p.app->add_flag("--keep-aspect", o.keep_aspect, "pad pictures with zeros instead of stretching them");
    p.app->add_option("--channels-in", o.channels_in, "1: luminance; 3: keep the colours (1)")->type_name("1|3");
    p.app->add_option("--normalize", o.normalize, "how values become [0, 1] (range for images, minmax for volumes)")
        ->type_name("range|minmax|percentile|zscore|ct");
    p.app->add_option("--window", o.window, "stored values that become 0 and 1")->type_name("LO,HI");
    p.app->add_option("--store", o.store, "type to store (uint8 in 2D, uint16 in 3D)")
        ->type_name("uint8|uint16|float16|float32");
    p.app->add_option("--labels", o.labels, "folder of label files of the same stems")->type_name("DIR");
    p.app->add_option("--split", o.split, "rows of the folder's index.csv to take")->type_name("NAME");
    p.app->add_flag("--strict", o.strict, "stop at the first bad input");
    p.result = [&p, &o] {
        p.require_value(!o.inputs.empty(), "an input (image or folder)");
        p.require_value(!o.out.empty(), "--out FILE.h5");
        return Command(o);
    };
}

void add_pretrain(Parsers& parsers, CLI::App& root, PretrainOptions& o) {
    auto& p = add(parsers, root, "pretrain", "train a backbone on a patch file, without labels",
                  "  cover pretrain --data xrays.h5 --out run\n"
                  "  cover pretrain --data xrays.h5 --out run --patch 128 --batch 4 --steps 500 --lr 1e-4\n"
                  "  cover pretrain --data xrays.h5 --out run --preset code --set brightness_sd=0.05\n"
                  "  cover pretrain --config run/config.toml --out again --seed 1\n"
                  "  cover pretrain --out run --resume\n");
    p.app->add_option("--out", o.out, "run folder to write")->type_name("RUN");
    p.app->add_option("--config", o.config.file, "TOML file of keys (options with _ for -)")->type_name("FILE.toml");
    p.app->add_option("--set", o.config.settings, "set a key, also one that has no option; may be repeated")
        ->type_name("key=value")
        ->allow_extra_args(false);
    p.add_all_keys();
    p.app->add_flag("--resume", o.resume, "go on with the run in --out; what is left out comes from its config.toml");
    p.app->add_flag("--allow-other-kernels", o.allow_other_kernels,
                    "resume with other kernels than the run had: no longer the same bits");
    p.result = [&p, &o] {
        o.config.options = p.take();
        p.require_value(!o.out.empty(), "--out RUN");
        if (o.allow_other_kernels && !o.resume)
            usage("[pretrain] --allow-other-kernels: goes with --resume; a new run takes any kernels");
        return Command(o);
    };
}

void add_evaluate(Parsers& parsers, CLI::App& root, EvaluateOptions& o) {
    auto& p = add(parsers, root, "evaluate", "scores that need no labels, of trained weights on a patch file",
                  "  cover evaluate --weights run/model.safetensors --data held_out.h5\n"
                  "  cover evaluate --weights w.safetensors --data held_out.h5 --pairs 256 --json\n");
    p.app->add_option("--weights", o.weights, "weights file or run folder")->type_name("W");
    p.app->add_option("--data", o.data, "patch file")->type_name("FILE.h5");
    p.app->add_option("--pairs", o.pairs, "pairs of views (64)")->type_name("N");
    p.app->add_option("--seed", o.seed, "key of the pairs (1)")->type_name("N")->check(not_negative);
    p.app->add_flag("--json", o.json, "print one JSON object");
    p.add_keys({"patch", "degree", "device", "precision", "threads", "kernel"});
    p.result = [&p, &o] {
        o.config.options = p.take();
        p.require_value(!o.weights.empty(), "--weights W");
        p.require_value(!o.data.empty(), "--data FILE.h5");
        if (o.pairs < 1) usage(text("[evaluate] --pairs: is ", o.pairs, "; at least 1 is needed"));
        return Command(o);
    };
}

void add_export(Parsers& parsers, CLI::App& root, ExportOptions& o) {
    auto& p = add(parsers, root, "export", "weights of a run under the authors' names, for PyTorch",
                  "  cover export run --out cover.safetensors\n"
                  "  cover export run --out backbone.safetensors --part backbone\n");
    p.app->add_option("RUN", o.run, "run folder")->type_name("");
    p.app->add_option("--out", o.out, "weights file to write")->type_name("FILE.safetensors");
    p.app->add_option("--part", o.part, "all of the model or its U-Net alone (all)")->type_name("all|backbone");
    p.result = [&p, &o] {
        p.require_value(!o.run.empty(), "the run folder");
        p.require_value(!o.out.empty(), "--out FILE.safetensors");
        if (o.part != "all" && o.part != "backbone")
            usage(text("[export] --part: '", o.part, "' is neither all nor backbone",
                       nearest_hint(o.part, {"all", "backbone"})));
        return Command(o);
    };
}

void add_apply(Parsers& parsers, CLI::App& root, ApplyOptions& o) {
    auto& p =
        add(parsers, root, "apply", "a trained network on new images; results on their own grid",
            "  cover apply --weights run --what rgb xrays/ --out pictures\n"
            "  cover apply --weights cover.safetensors --what features a.png b.png --out features\n"
            "  cover apply --weights cover.safetensors --what displacement moving.nii.gz fixed.nii.gz --out d\n\n"
            "features: the full-resolution map, .npy (H, W, C), or a NIfTI volume per channel. rgb: its first\n"
            "three principal components over all inputs as colours, PNG or NIfTI. displacement: of each pair\n"
            "MOVING FIXED, on the grid of FIXED, the vector from each of its points to the same place in MOVING:\n"
            ".npy (H, W, 2) in pixels (down, right), or a NIfTI vector volume in mm (right, anterior, superior).\n"
            "segmentation comes with `cover finetune`, which this version does not have: refused, exit code 4.\n");
    p.app->add_option("INPUT", o.inputs, "images, volumes, patch files, or folders of them")->type_name("");
    p.app->add_option("--weights", o.weights, "weights file or run folder")->type_name("W");
    p.app->add_option("--what", o.what, "what to compute")->type_name("features|rgb|displacement|segmentation");
    p.app->add_option("--out", o.out, "folder for the results")->type_name("DIR");
    p.app->add_option("--tile", o.tile, "cut larger images into tiles of these sides (the patch of the training)")
        ->type_name("S|DxHxW|whole");
    p.app->add_flag("--overwrite", o.overwrite, "replace results that are there");
    p.app->add_flag("--json", o.json, "print one JSON object");
    p.add_keys({"device", "precision", "threads", "kernel"});
    p.result = [&p, &o] {
        o.config.options = p.take();
        p.require_value(!o.weights.empty(), "--weights W");
        p.require_value(!o.what.empty(), "--what features|rgb|displacement");
        const std::vector<std::string> kinds{"features", "rgb", "displacement", "segmentation"};
        if (std::find(kinds.begin(), kinds.end(), o.what) == kinds.end())
            usage(text("[apply] --what: '", o.what, "' is none of features, rgb, displacement and segmentation",
                       nearest_hint(o.what, kinds)));
        p.require_value(!o.inputs.empty(), "an input (image, volume or folder)");
        p.require_value(!o.out.empty(), "--out DIR");
        return Command(o);
    };
}

void add_report(Parsers& parsers, CLI::App& root, ReportOptions& o) {
    auto& p = add(parsers, root, "report", "report.html of a run, made anew from its folder",
                  "  cover report run\n"
                  "  cover report run --out supplement.html --weights run/checkpoints/step-0001000\n"
                  "  cover report run --data moved/xrays.h5\n");
    p.app->add_option("RUN", o.run, "run folder")->type_name("");
    p.app->add_option("--out", o.out, "page to write (RUN/report.html)")->type_name("FILE.html");
    p.app->add_option("--weights", o.weights, "checkpoint or weights file to show (RUN/model.safetensors)")
        ->type_name("CHECKPOINT");
    p.app->add_option("--data", o.data, "patch files to show, where those of the run were moved")->type_name("FILE.h5");
    p.app->add_option("--threads", o.threads, "threads that compute (as many as the run had)")->type_name("N");
    p.result = [&p, &o] {
        p.require_value(!o.run.empty(), "the run folder");
        if (o.threads < 0) usage(text("[report] --threads: is ", o.threads, "; at least 0 is needed"));
        return Command(o);
    };
}

void add_verify(Parsers& parsers, CLI::App& verify, VerifyGoldenOptions& o) {
    auto& p = add(parsers, verify, "golden", "run the model of a golden file and compare every number",
                  "  cover verify golden cover2d.h5\n"
                  "  cover verify golden cover2d.h5 --warp reference --precision fp64\n"
                  "  cover verify golden cover3d.h5 --dump computed.h5\n");
    p.app->add_option("FILE.h5", o.files, "golden files")->type_name("");
    p.app->add_option("--dump", o.dump, "write what was computed, in the golden file's layout")->type_name("OUT.h5");
    p.app->add_flag("--json", o.json, "print one JSON object");
    p.add_keys({"warp", "device", "precision", "threads", "kernel"});
    p.result = [&p, &o] {
        o.config.options = p.take();
        for (const auto& [key, values] : o.config.options) o.warp_given = o.warp_given || key == "warp";
        p.require_value(!o.files.empty(), "the golden file");
        return Command(o);
    };
}

void add_verify_runs(Parsers& parsers, CLI::App& verify, VerifyRunsOptions& o, std::vector<std::string>& runs) {
    auto& p = add(parsers, verify, "runs", "first step and first tensor in which two runs differ",
                  "  cover verify runs run again\n  cover verify runs run again --json\n");
    p.app->add_option("RUN", runs, "two run folders")->type_name("");
    p.app->add_flag("--json", o.json, "print one JSON object");
    p.result = [&p, &o, &runs] {
        p.require_value(runs.size() == 2, "a run folder (two are compared)");
        o.a = runs[0];
        o.b = runs[1];
        return Command(o);
    };
}

void add_verify_batch(Parsers& parsers, CLI::App& verify, VerifyBatchOptions& o) {
    auto& p = add(parsers, verify, "batch", "compute a step again whose numbers were not finite, from the file it left",
                  "  cover verify batch run/nonfinite-step-0000123.safetensors\n"
                  "  cover verify batch run/nonfinite-step-0000123.safetensors --kernel conv:ref --precision fp64\n");
    p.app->add_option("FILE", o.file, "the file that the run wrote")->type_name("");
    p.app->add_flag("--json", o.json, "print one JSON object");
    p.add_keys({"device", "precision", "threads", "kernel"});
    p.result = [&p, &o] {
        o.config.options = p.take();
        p.require_value(!o.file.empty(), "the batch file");
        return Command(o);
    };
}

void add_bench(Parsers& parsers, CLI::App& bench, BenchStepOptions& step, BenchOpsOptions& ops) {
    auto& s = add(parsers, bench, "step", "time a training step on random images",
                  "  cover bench step --dims 2 --patch 128 --batch 4 --threads 2\n"
                  "  cover bench step --dims 3 --patch 48 --batch 1 --json --profile\n");
    s.app->add_option("--steps", step.steps, "steps to time, after the warm-up (5)")->type_name("N");
    s.app->add_flag("--profile", step.profile, "time and bytes of every op");
    s.app->add_flag("--json", step.json, "print one JSON object");
    s.add_keys({"dims", "patch", "batch", "channels", "head_dim", "heads", "radius", "levels", "warp", "optimizer",
                "loss", "elastic", "seed", "device", "precision", "threads", "kernel"});
    s.result = [&s, &step] {
        step.config.options = s.take();
        if (step.steps < 1) usage(text("[bench step] --steps: is ", step.steps, "; at least 1 is needed"));
        return Command(step);
    };

    auto& p = add(parsers, bench, "ops", "time every kernel row at the shapes of a training step",
                  "  cover bench ops --dims 2 --patch 128 --batch 4\n  cover bench ops --op conv --threads 1 --json\n"
                  "  cover bench ops --device cuda --patch 384 --batch 24 --seconds 0.02 --limit 60\n"
                  "On a GPU rows of all precisions are timed, unless --precision names one.\n");
    p.app->add_option("--op", ops.op, "some ops and their backwards only, as in conv or warp,add")->type_name("OP");
    p.app->add_option("--row", ops.row, "one row only, as in cpu_avx2: the reference takes long at large shapes")
        ->type_name("ROW");
    p.app->add_option("--seconds", ops.seconds, "time to spend on each row (0.2)")->type_name("X");
    p.app->add_option("--limit", ops.limit, "leave out the rows that are not reached after this many seconds (none)")
        ->type_name("X");
    p.app->add_flag("--json", ops.json, "print one JSON object");
    p.add_keys({"dims", "patch", "batch", "channels", "head_dim", "heads", "radius", "device", "precision", "threads"});
    p.result = [&p, &ops] {
        ops.config.options = p.take();
        for (const auto& [key, values] : ops.config.options)
            if (key == "precision" && !values.empty()) ops.precision = values.back();
        if (!(ops.limit >= 0 && ops.limit <= 86400))
            usage(text("[bench ops] --limit: is ", ops.limit, "; a value from 0 (none) to 86400 is needed"));
        if (!(ops.seconds > 0 && ops.seconds <= 60))
            usage(text("[bench ops] --seconds: is ", ops.seconds, "; a value above 0 and up to 60 is needed"));
        return Command(ops);
    };
}

void add_info(Parsers& parsers, CLI::App& root, InfoOptions& o) {
    auto& p = add(parsers, root, "info", "what this program and machine are, or what a file or run folder holds",
                  "  cover info\n  cover info xrays.h5\n  cover info run/model.safetensors --json\n");
    p.app->add_option("FILE", o.file, "patch file, weights file or run folder")->type_name("");
    p.app->add_flag("--json", o.json, "print one JSON object");
    p.result = [&o] { return Command(o); };
}

// Refuses a word that is no command before CLI11 sees it.
void check_command(const CLI::App& app, const std::string& where, const char* word) {
    const auto known = app.get_subcommands([](const CLI::App*) { return true; });
    std::vector<std::string> names;
    for (const auto* command : known) names.push_back(command->get_name());
    if (std::find(names.begin(), names.end(), word) != names.end()) return;
    if (where.empty())
        if (const auto later = later_commands.find(word); later != later_commands.end())
            usage(text("[cover] '", word, "': this version does not have ", later->second, " yet"));
    usage(text("[cover] there is no command '", where, word, "'", nearest_hint(word, names), "; `cover ", where,
               "--help` lists them"));
}

}  // namespace

Command parse_command_line(int argc, const char* const* argv) {
    CLI::App root("COVER: vector contrastive pretraining for medical images, from images to weights.", "cover");
    root.footer(
        "Examples:\n  cover demo\n  cover prepare xrays/ --out xrays.h5\n  cover pretrain --data xrays.h5 --out run\n"
        "  cover export run --out cover.safetensors\n\n"
        "Numbers go to stdout, messages to stderr. Exit codes: 0 done, 2 usage, 3 configuration, 4 data, 5 device or\n"
        "memory, 6 numerical stop, 7 input/output, 8 interrupted and saved, 9 verification failed.");
    bool show_version = false;
    root.add_flag("--version", show_version, "print the version and how it was built");

    Parsers parsers;
    DemoOptions demo;
    PrepareOptions prepare;
    PretrainOptions pretrain;
    EvaluateOptions evaluate;
    ExportOptions export_weights;
    ApplyOptions apply;
    ReportOptions report;
    VerifyGoldenOptions golden;
    VerifyRunsOptions runs;
    std::vector<std::string> run_folders;
    VerifyBatchOptions batch;
    BenchStepOptions step;
    BenchOpsOptions ops;
    InfoOptions info;
    add_demo(parsers, root, demo);
    add_prepare(parsers, root, prepare);
    add_pretrain(parsers, root, pretrain);
    add_evaluate(parsers, root, evaluate);
    add_export(parsers, root, export_weights);
    add_report(parsers, root, report);
    add_apply(parsers, root, apply);
    auto* verify = root.add_subcommand("verify", "check this program's numbers");
    add_verify(parsers, *verify, golden);
    add_verify_runs(parsers, *verify, runs, run_folders);
    add_verify_batch(parsers, *verify, batch);
    auto* bench = root.add_subcommand("bench", "time a training step, or every kernel");
    add_bench(parsers, *bench, step, ops);
    add_info(parsers, root, info);

    if (argc < 2) usage("[cover] a command is missing; `cover --help` lists them, `cover demo` shows the whole of it");
    const std::string first = argv[1];
    if (first == "help" && argc == 2) return TextOptions{root.help()};
    if (first == "help") {
        // `cover help bench step` is `cover bench step --help`.
        std::vector<const char*> words{argv[0]};
        words.insert(words.end(), argv + 2, argv + argc);
        words.push_back("--help");
        return parse_command_line(static_cast<int>(words.size()), words.data());
    }
    if (first.rfind('-', 0) != 0) {
        check_command(root, "", argv[1]);
        CLI::App* family = first == "verify" ? verify : first == "bench" ? bench : nullptr;
        if (family) {
            if (argc < 3)
                usage(text("[", first, "] what to ", first, " is missing; `cover ", first, " --help` lists the kinds"));
            const std::string second = argv[2];
            if (second.rfind('-', 0) != 0)
                check_command(*family, first + " ", argv[2]);
            else if (second != "--help" && second != "-h")
                usage(text("[", first, "] '", second, "' stands where the kind is expected",
                           nearest_hint(second, {"--help"}), "; `cover ", first, " --help` lists the kinds"));
        }
    } else if (first != "--help" && first != "-h" && first != "--version") {
        const std::string bare = first.substr(0, first.find('='));
        usage(text("[cover] there is no option '", bare, "'", nearest_hint(bare, {"--help", "--version"}),
                   "; a command comes first, `cover --help` lists them"));
    }

    try {
        root.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        return TextOptions{root.help()};  // of the command that was named, its parents before it
    } catch (const CLI::ParseError& error) {
        for (auto& parser : parsers)
            if (parser.app->parsed()) usage(sentence_of(error, parser.name(), *parser.app));
        usage(sentence_of(error, "", root));
    }
    if (show_version) return TextOptions{text("cover ", version(), " (", build_description(), ")\n")};
    for (auto& parser : parsers) {
        if (!parser.app->parsed()) continue;
        parser.refuse_extras();
        return parser.result();
    }
    usage("[cover] a command is missing; `cover --help` lists them");
}

}  // namespace cover::app
