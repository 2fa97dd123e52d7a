// What the user has set, shared by every thread of an instance.
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>

#include "packs.h"
#include "parameters.h"
#include "state.h"

namespace backline {

class Settings {
  public:
    Settings();

    // Any thread; the audio thread too.
    double value(uint32_t index) const { return values_[index].load(std::memory_order_relaxed); }
    void set_value(uint32_t index, double value) {
        values_[index].store(std::min(clamp_parameter(index, value), maximum(index)), std::memory_order_relaxed);
    }
    double maximum(uint32_t index) const { return index == kPack ? packs.shown() - 1.0 : parameters()[index].maximum; }

    // Counts changes of what is not a parameter, for whoever has to follow them.
    uint32_t version() const { return version_.load(std::memory_order_acquire); }

    // Any thread but the audio thread: these take a lock.
    State state() const;
    void set_state(const State& state);
    std::string endpoint() const;
    void set_endpoint(const std::string& endpoint);

    Packs packs;

  private:
    std::atomic<double> values_[kParameterCount];
    std::atomic<uint32_t> version_{0};
    mutable std::mutex mutex_;
    std::string endpoint_;  // under it
};

}  // namespace backline
