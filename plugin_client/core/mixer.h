// Dry and wet become the outputs: gains without zipper noise, and a cross-fade to full dry where wet is missing.
#pragma once

#include <cstdint>

#include "block.h"
#include "output_ring.h"

namespace backline {

// Reaches its target in a straight line; at the target it is exactly the target.
class Ramp {
  public:
    void jump(float target) { value_ = target_ = target, left_ = 0; }
    void aim(float target, uint32_t samples);
    float next();

  private:
    float value_ = 0.0f, target_ = 0.0f, step_ = 0.0f;
    uint32_t left_ = 0;
};

// One thread. The first call of `aim` takes effect at once, later ones over the time of a fade.
class Mixer {
  public:
    explicit Mixer(double sample_rate);

    void aim(double dry_wet, double gain_db, bool bypass);

    // Before the signal's start there is nothing to hear and nothing to fade: unless bypassed, wet is taken to be
    // there.
    void settle() { level_ = bypass_ ? 0 : fade_; }

    // Mixes samples [begin, end) of a piece that lies at `offset` in the outputs; null outputs are left out. Returns
    // the main output's peak.
    float mix(const float (*dry)[kChannels], const Wet& wet, uint32_t begin, uint32_t end,
              float* const (*outputs)[kChannels], uint32_t offset);

  private:
    uint32_t fade_;       // samples of a whole fade
    uint32_t level_ = 0;  // 0: dry in full; fade_: the mix
    bool rising_ = false;
    bool bypass_ = false;
    bool aimed_ = false;
    Ramp dry_gain_, wet_gain_;
    float last_[kOutputs][kChannels] = {};  // wet, where it was last there: fades from a step to nothing
};

}  // namespace backline
