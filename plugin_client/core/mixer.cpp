// The per-sample loop.
#include "mixer.h"

#include <algorithm>
#include <cmath>

#include "parameters.h"

namespace backline {
namespace {

constexpr double kFadeSeconds = 0.005;

}  // namespace

void Ramp::aim(float target, uint32_t samples) {
    if (target == target_) return;
    target_ = target;
    left_ = samples;
    step_ = (target - value_) / static_cast<float>(samples);
}

float Ramp::next() {
    if (left_ == 0) return value_;
    value_ = --left_ == 0 ? target_ : value_ + step_;
    return value_;
}

Mixer::Mixer(double sample_rate) : fade_(static_cast<uint32_t>(std::lround(kFadeSeconds * sample_rate))) {}

void Mixer::aim(double dry_wet, double gain_db, bool bypass) {
    const double gain = gain_db <= kSilentGain ? 0.0 : gain_db == 0.0 ? 1.0 : std::pow(10.0, gain_db / 20.0);
    const auto dry = static_cast<float>(std::min(1.0, 2.0 * (1.0 - dry_wet)));
    const auto wet = static_cast<float>(std::min(1.0, 2.0 * dry_wet) * gain);
    bypass_ = bypass;
    if (!aimed_) {
        dry_gain_.jump(dry);
        wet_gain_.jump(wet);
        aimed_ = true;
    }
    dry_gain_.aim(dry, fade_);
    wet_gain_.aim(wet, fade_);
}

float Mixer::mix(const float (*dry)[kChannels], const Wet& wet, uint32_t begin, uint32_t end,
                 float* const (*outputs)[kChannels], uint32_t offset) {
    float peak = 0.0f;
    for (uint32_t i = begin; i < end; ++i) {
        const bool present = wet.ports[i] != 0;
        const bool wanted = present && !bypass_;
        // A fall goes to its end before anything rises: what returns meets silence, not the middle of a fade.
        if (level_ == 0 || level_ == fade_)
            rising_ = wanted;
        else if (!wanted)
            rising_ = false;
        if (rising_)
            level_ = std::min(level_ + 1, fade_);
        else if (level_ > 0)
            --level_;

        const float fade = static_cast<float>(level_) / static_cast<float>(fade_);
        const float dry_gain = dry_gain_.next(), wet_gain = wet_gain_.next();
        const float dry_share = level_ == fade_ ? dry_gain : 1.0f - fade + fade * dry_gain;
        const float wet_share = level_ == fade_ ? wet_gain : fade * wet_gain;
        for (uint32_t output = 0; output < kOutputs; ++output) {
            for (uint32_t channel = 0; channel < kChannels; ++channel) {
                float& last = last_[output][channel];
                if (present) last = wet.samples[output][channel][i];
                float* const out = outputs[output][channel];
                if (!out) continue;
                // No share, no product: whatever the other signal holds, NaN too, the result is exact.
                float sample = wet_share == 0.0f ? 0.0f : wet_share * last;
                if (output == 0) {
                    if (wet_share == 0.0f)
                        sample = dry_share * dry[i][channel];
                    else if (dry_share != 0.0f)
                        sample += dry_share * dry[i][channel];
                    peak = std::max(peak, std::fabs(sample));
                }
                out[offset + i] = sample;
            }
        }
    }
    return peak;
}

}  // namespace backline
