// How far the host has pulled ahead of the clock: one that plays in real time never gets far, one that bounces does.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace backline {

// The lead is what has been pulled less the time that has passed, without what this plugin has waited itself. A quarter
// of the clock it fades: clocks drift, and a burst (a large buffer in small blocks, a prefetch, delays that are primed)
// is over when the host goes on in time. Below zero it is what a host that stood still may catch up at once.
class Pace {
  public:
    using Clock = std::chrono::steady_clock;
    using Seconds = std::chrono::duration<double>;

    // Blocks of up to `max_frames`: a host may fetch one and the next before any of them sounds.
    Pace(double sample_rate, uint32_t max_frames)
        : sample_rate_(sample_rate), hurry_(std::clamp(1.5 * max_frames / sample_rate, kHurry, kMost)) {}

    // At the beginning of each call for `frames` samples.
    void pull(Clock::time_point now, uint32_t frames) {
        const double passed = begun_ ? std::max(0.0, Seconds(now - last_ - waited_).count()) : 0.0;
        lead_ -= passed;
        lead_ -= std::clamp(lead_, -kFading * passed, kFading * passed);
        lead_ = std::clamp(lead_, -kMost, hurry_ + kRunOut);
        hurried_ = lead_ >= hurry_;
        lead_ += frames / sample_rate_;
        begun_ = true;
        last_ = now;
        waited_ = {};
    }
    // So long a call has waited for the server: the host would not have.
    void wait(Clock::duration time) { waited_ += time; }
    void reset() { begun_ = hurried_ = false, lead_ = 0.0, waited_ = {}; }

    bool hurried() const { return hurried_; }  // pulls faster than time: nobody listens yet
    double lead() const { return lead_; }      // seconds, this call's samples among them

  private:
    static constexpr double kHurry = 0.25;   // seconds of lead that no host takes which plays in real time
    static constexpr double kMost = 1.0;     // seconds
    static constexpr double kFading = 0.25;  // of the time that passes
    static constexpr double kRunOut = 0.05;  // seconds of further lead: in time again, it is over in four times that

    double sample_rate_;
    double hurry_;
    double lead_ = 0.0;
    bool begun_ = false;
    bool hurried_ = false;
    Clock::time_point last_;
    Clock::duration waited_{};
};

}  // namespace backline
