// The audio thread's half of an active instance: input into the rings, delayed dry and wet out of them.
#pragma once

#include <chrono>
#include <cstdint>

#include "block.h"
#include "delay.h"
#include "exchange.h"
#include "midi_backlog.h"
#include "mixer.h"
#include "pace.h"
#include "settings.h"

namespace backline {

// Everything here is the audio thread's. Live nothing allocates, locks, waits or makes a system call.
//
// Offline it waits for what is due. So it does where the host has not said that it bounces but is far ahead of the
// clock (pace.h): what it pulls then nobody hears yet, so its thread is no real-time one at that moment, and dry
// output would be kept for good. Such a wait is short: it ends where nothing has come from the server for
// kHurriedPatience, and there is none where no server can be reached. What is dry nevertheless is counted, and the
// status says "failed".
class Player {
  public:
    Player(Settings& settings, Exchange& exchange);

    void process(const Block& block) noexcept;
    void reset() noexcept;
    void retime(const Timing& timing) noexcept;  // all that is under way belongs to before

  private:
    void follow_host(const Block& block) noexcept;
    void follow_transport(const Transport& transport) noexcept;
    void begin_take() noexcept;
    void end_hurry() noexcept;
    void restart() noexcept;
    void tell_transport(const Transport& transport) noexcept;
    bool tell_parameters() noexcept;
    bool tell_slots() noexcept;
    bool tell_parameter(uint32_t index, double value, uint32_t binding = 0) noexcept;
    void take_event(const Event& event) noexcept;
    void tell_midi(const uint8_t* midi, uint8_t size) noexcept;
    void tell_backlog() noexcept;
    void process_piece(const Block& block, uint32_t offset, uint32_t count) noexcept;
    void send_input(const Block& block, uint32_t offset, uint32_t count) noexcept;
    void mix(const Block& block, uint32_t offset, uint32_t count) noexcept;
    bool push(Change change) noexcept;
    bool wet_is_ours() const noexcept;
    bool may_wait() const noexcept { return offline_ || hurried_; }

    // Where it may wait: until `done`, or until there is no hope for this take.
    template <class Done>
    void wait_until(Done done) noexcept;

    Settings& settings_;
    Exchange& exchange_;
    Timing timing_;
    Delay delay_;
    Mixer mixer_;
    int64_t position_ = 0;   // of the next sample
    int64_t dry_floor_ = 0;  // before it the dry signal is silent
    int64_t wet_floor_ = 0;  // before it no wet is due
    uint32_t take_ = 0;      // counts restarts
    bool offline_ = false;
    bool withdrawable_ = false;  // it is, because set_offline() has said so and not this call
    bool hurried_ = false;
    bool rolling_ = false;  // the host's transport plays
    Pace pace_;
    bool owes_restart_ = true;  // the worker has not been told yet
    bool owes_seed_ = true;     // and that take is to draw a seed of its own, where it is left to chance
    bool stood_ = false;        // the transport, by the newest call that told one
    bool was_reset_ = false;    // since then
    bool lost_input_ = false;   // since the last sample that the worker got

    double told_[kParameterCount];  // parameters as the worker knows them
    uint32_t told_binding_[kSlots] = {};
    Transport transport_;           // that the worker knows, true at `transport_position_`
    int64_t transport_position_ = -1;
    MidiBacklog backlog_;
    uint64_t dry_ahead_ = 0;  // samples that were dry and should not have been, since the host was last in time
    Wet wet_;
};

}  // namespace backline
