// The dry signal, held back by the plugin's latency.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "block.h"

namespace backline {

// One thread. Sample p is written once, in order, and can be read until `latency + piece` later ones have been.
class Delay {
  public:
    Delay(uint32_t latency, uint32_t piece) : capacity_(latency + piece) {
        for (std::vector<float>& channel : samples_) channel.assign(capacity_, 0.0f);
    }

    // Writes `count` samples from `position` on; a null channel, and what is no finite number, is silence.
    void write(int64_t position, const float* const* channels, uint32_t offset, uint32_t count) {
        for (uint32_t channel = 0; channel < kChannels; ++channel) {
            for (uint32_t done = 0; done < count;) {
                const uint32_t slot = static_cast<uint32_t>((position + done) % capacity_);
                const uint32_t run = std::min(count - done, capacity_ - slot);
                float* to = samples_[channel].data() + slot;
                const float* const from = channels[channel] ? channels[channel] + offset + done : nullptr;
                if (from)
                    std::transform(from, from + run, to, [](float x) { return std::isfinite(x) ? x : 0.0f; });
                else
                    std::fill_n(to, run, 0.0f);
                done += run;
            }
        }
    }

    // Reads `count` samples from `position` on into `out`; what lies before `floor` is silence.
    void read(int64_t position, int64_t floor, float (*out)[kChannels], uint32_t count) const {
        for (uint32_t i = 0; i < count; ++i) {
            const int64_t p = position + i;
            for (uint32_t channel = 0; channel < kChannels; ++channel)
                out[i][channel] = p < floor ? 0.0f : samples_[channel][static_cast<uint32_t>(p % capacity_)];
        }
    }

  private:
    uint32_t capacity_;
    std::vector<float> samples_[kChannels];
};

}  // namespace backline
