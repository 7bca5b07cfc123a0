// cover pretrain: the main job.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "app/commands.h"
#include "app/progress.h"
#include "app/training_run.h"
#include "core/check.h"

namespace cover::app {

int run(const PretrainOptions& options) {
    ConfigSources sources = options.config;
    std::error_code error;
    if (const auto path = options.out + "/config.toml"; options.resume && std::filesystem::exists(path, error))
        sources.run = path;
    const TrainConfig config = resolve_config(sources);
    require(!config.data.empty(), ErrorKind::usage,
            "[pretrain] --data FILE.h5 is missing; `cover pretrain --help` shows examples");
    const auto outcome = train(config, options.out, {}, {options.resume, options.allow_other_kernels});
    std::fputs(fmt::format("steps {}\nloss_vec_ratio {:.4f}\nloss_con {:.5f}\nseconds {:.1f}\n", outcome.steps,
                           outcome.loss_vec_ratio, outcome.loss_con, outcome.seconds)
                   .c_str(),
               stdout);
    std::fprintf(stderr, "done in %s: %s/model.safetensors, %s/report.html\n", duration_text(outcome.seconds).c_str(),
                 options.out.c_str(), options.out.c_str());
    return 0;
}

}  // namespace cover::app
