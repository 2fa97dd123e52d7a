// Whether a value has stood still: what is dragged, or automated, is acted on once and not at every step.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace backline {

// By the song's time as far as it is played, else by the clock. Any thread may ask; those that look may be several, and
// a look that another one overtakes only makes the wait longer.
class Settling {
  public:
    using Clock = std::chrono::steady_clock;

    // The value as it is now, `seconds` of the song after the last look.
    void look(uint64_t value, double seconds, Clock::time_point now) noexcept {
        if (seconds > 0.0) pulled_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
        if (value_.exchange(value, std::memory_order_relaxed) != value) {
            since_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
            played_.store(0.0, std::memory_order_relaxed);
        } else {
            played_.store(played_.load(std::memory_order_relaxed) + seconds, std::memory_order_relaxed);
        }
    }

    void stand() noexcept { played_.store(kSeconds, std::memory_order_relaxed); }  // where it is, deliberately

    bool stands(Clock::time_point now) const noexcept {
        if (played_.load(std::memory_order_relaxed) >= kSeconds) return true;
        return now - time_of(pulled_) >= kPause && now - time_of(since_) >= kTime;
    }

  private:
    static constexpr double kSeconds = 1.0;
    static constexpr std::chrono::seconds kTime{1};
    static constexpr std::chrono::milliseconds kPause{250};  // after which the song is not played

    static Clock::time_point time_of(const std::atomic<Clock::rep>& at) noexcept {
        return Clock::time_point{Clock::duration(at.load(std::memory_order_relaxed))};
    }

    std::atomic<uint64_t> value_{0};
    std::atomic<double> played_{0.0};
    std::atomic<Clock::rep> since_{0}, pulled_{0};
};

}  // namespace backline
