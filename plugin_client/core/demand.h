// Whether a session is of use to anyone: a stopped, muted or bypassed instance leaves its place to those that play.
#pragma once

#include <chrono>
#include <cstdint>

namespace backline {

enum class Rolling : uint8_t { unknown, stopped, playing };  // the host's transport, as far as it tells one

// The worker's. All by the clock, from what it sees of the host now and then.
//
// A host that makes no calls has stopped, suspended or muted us. One whose transport stands still may have a singer who
// rehearses: as long as something sounds, and through the pauses between phrases, the band stays. While the transport
// plays, or where the host tells none, silence is music too.
class Demand {
  public:
    using Clock = std::chrono::steady_clock;

    // `pulled` and `sounded` grow with the host's calls, and with those in which something was to be heard.
    void look(Clock::time_point now, uint64_t pulled, uint64_t sounded, Rolling rolling, bool bypassed) {
        if (pulled != pulled_) called_ = now;
        if (sounded != sounded_) heard_ = now, sang_ = true;
        if (rolling != rolling_) stopped_ = now, sang_ = false;
        if (bypassed != bypassed_) bypassed_since_ = now;
        pulled_ = pulled, sounded_ = sounded, rolling_ = rolling, bypassed_ = bypassed;
        const bool wanted =
            now - called_ < kGrace && !(bypassed_ && now - bypassed_since_ >= kGrace) && !stood_still(now);
        const bool begins = rolling == Rolling::playing && !played_;
        if ((wanted && !wanted_) || begins) ++calls_;
        wanted_ = wanted, played_ = rolling == Rolling::playing;
        abandoned_ = now - called_ >= kPatience;
    }
    // A session has just been got: whoever has waited for it gets the whole grace to play.
    void grant(Clock::time_point now) { granted_ = now; }

    bool wanted() const { return wanted_; }
    bool abandoned() const { return abandoned_; }  // no call for so long that a bounce, too, must have ended
    uint64_t calls() const { return calls_; }  // grows whenever a session begins to be wanted, and with each play

  private:
    static constexpr std::chrono::seconds kGrace{2};   // a stop that is shorter keeps the session
    static constexpr std::chrono::seconds kPatience{10};
    static constexpr std::chrono::seconds kPause{20};  // of a singer whose transport stands still

    bool stood_still(Clock::time_point now) const {
        if (rolling_ != Rolling::stopped || now - granted_ < kGrace) return false;
        return sang_ ? now - heard_ >= kPause : now - stopped_ >= kGrace;
    }

    uint64_t pulled_ = 0, sounded_ = 0, calls_ = 0;
    Rolling rolling_ = Rolling::unknown;
    bool bypassed_ = false, sang_ = false, wanted_ = false, played_ = false, abandoned_ = false;
    Clock::time_point called_, heard_, stopped_, bypassed_since_, granted_;
};

}  // namespace backline
