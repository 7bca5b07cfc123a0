#include "kernels/cpu/conv_statistics.h"

namespace cover::cpu {

void StripMoments::cut(const StripPlan& plan, const std::vector<Strip>& strips, const float* y) {
    // As short as those of group norm: the sums within a piece are of float32.
    const i64 most = std::max<i64>(1, task_elements / std::max<i64>(32, p_.channels));
    begin_.assign(1, 0);
    for (const Strip& s : strips) {
        const Pieces pieces{plan.pixels(s), most};
        for (i64 i = 0; i < pieces.count(); ++i)
            pieces_.push_back({y + (plan.first_pixel(s) + pieces.begin(i)) * p_.channels, nullptr, pieces.length(i)});
        begin_.push_back(pieces_.size());
    }
    sums_.emplace(static_cast<i64>(pieces_.size()) * 2 * p_.channels);
    for (std::size_t i = 0; i < pieces_.size(); ++i)
        pieces_[i].sums = sums_->data() + static_cast<i64>(i) * 2 * p_.channels;
}

void StripMoments::sum_piece(std::size_t i) {
    kernels_.moments(pieces_[i].sums, pieces_[i].sums + p_.channels, pieces_[i].first, pieces_[i].pixels, p_.channels);
}

void StripMoments::sum(i64 strip) {
    const auto s = static_cast<std::size_t>(strip);
    for (std::size_t i = begin_[s]; i < begin_[s + 1]; ++i) sum_piece(i);
}

void StripMoments::sum_samples(const StripPlan& plan, const float* y, Stream& stream) {
    std::vector<Strip> samples;
    for (i64 n = 0; n < plan.n; ++n) samples.push_back(plan.sample(n));
    cut(plan, samples, y);
    stream.parallel(static_cast<i64>(pieces_.size()), [&](i64 i) { sum_piece(static_cast<std::size_t>(i)); });
}

void StripMoments::finish(float* mean, float* rstd, Stream& stream) const {
    // Strips never reach over a sample's end.
    const std::size_t strips = (begin_.size() - 1) / static_cast<std::size_t>(p_.n);
    stream.parallel(p_.n, [&](i64 n) {
        const std::size_t first = begin_[static_cast<std::size_t>(n) * strips],
                          last = begin_[static_cast<std::size_t>(n + 1) * strips];
        join_moments(mean + n * p_.groups, rstd + n * p_.groups, std::span(pieces_).subspan(first, last - first), 1,
                     p_);
    });
}

}  // namespace cover::cpu
