// What the user has set, shared by every thread of an instance.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "parameters.h"
#include "state.h"

namespace backline {

class Settings {
  public:
    Settings();

    // Any thread; the audio thread too.
    double value(uint32_t index) const { return values_[index].load(std::memory_order_relaxed); }
    void set_value(uint32_t index, double value) {
        values_[index].store(clamp_parameter(index, value), std::memory_order_relaxed);
    }

    // Counts changes of what is not a parameter, for whoever has to follow them.
    uint32_t version() const { return version_.load(std::memory_order_acquire); }

    // Any thread but the audio thread: these take a lock.
    State state() const;
    void set_state(const State& state);
    std::string endpoint() const;
    void set_endpoint(const std::string& endpoint);
    std::vector<std::string> packs() const;
    std::string pack(uint32_t number) const;                // empty where there is no such pack
    void add_packs(const std::vector<std::string>& names);  // after those known, so that no number changes

  private:
    std::atomic<double> values_[kParameterCount];
    std::atomic<uint32_t> version_{0};
    mutable std::mutex mutex_;  // of what follows
    std::string endpoint_;
    std::vector<std::string> packs_{"default", "passthrough"};
};

}  // namespace backline
