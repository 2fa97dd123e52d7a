// The audio thread's half of an active instance: input into the rings, delayed dry and wet out of them.
#pragma once

#include <chrono>
#include <cstdint>

#include "delay.h"
#include "exchange.h"
#include "mixer.h"
#include "plugin.h"
#include "settings.h"

namespace backline {

// Everything here is the audio thread's. Live nothing allocates, locks, waits or makes a system call.
class Player {
  public:
    Player(Settings& settings, Exchange& exchange);

    void process(const Block& block) noexcept;
    void reset() noexcept;

  private:
    void restart() noexcept;
    void tell_transport(const Transport& transport) noexcept;
    void tell_parameters() noexcept;
    void take_event(const Event& event) noexcept;
    void process_piece(const Block& block, uint32_t offset, uint32_t count) noexcept;
    void send_input(const Block& block, uint32_t offset, uint32_t count) noexcept;
    void mix(const Block& block, uint32_t offset, uint32_t count) noexcept;
    bool push(Change change) noexcept;
    bool wet_is_ours() const noexcept;

    // Offline: waits until `done`, or until there is no hope for this take.
    template <class Done>
    void wait_until(Done done) noexcept;

    Settings& settings_;
    Exchange& exchange_;
    Delay delay_;
    Mixer mixer_;
    int64_t position_ = 0;   // of the next sample
    int64_t dry_floor_ = 0;  // before it the dry signal is silent
    int64_t wet_floor_ = 0;  // before it no wet is due
    uint32_t take_ = 0;      // counts restarts
    bool offline_ = false;
    bool owes_restart_ = true;  // the worker has not been told yet
    bool lost_input_ = false;   // since the last sample that the worker got

    double told_[kParameterCount];  // parameters as the worker knows them
    Transport transport_;           // that the worker knows, true at `transport_position_`
    int64_t transport_position_ = -1;
    Wet wet_;
};

}  // namespace backline
