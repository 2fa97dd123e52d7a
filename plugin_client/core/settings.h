// What the user has set, shared by every thread of an instance.
#pragma once

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>

#include "pack_texts.h"
#include "packs.h"
#include "parameters.h"
#include "prompts.h"
#include "slots.h"
#include "state.h"

namespace backline {

class Settings {
  public:
    Settings();

    // Any thread; the audio thread too.
    double value(uint32_t index) const {
        return is_slot(index) ? slots.value(index - kFirstSlot) : values_[index].load(std::memory_order_relaxed);
    }
    void set_value(uint32_t index, double value) {
        value = std::min(clamp_parameter(index, value), maximum(index));
        if (is_slot(index))
            slots.set_value(index - kFirstSlot, value);
        else
            values_[index].store(value, std::memory_order_relaxed);
    }
    double maximum(uint32_t index) const { return index == kPack ? packs.shown() - 1.0 : parameters()[index].maximum; }

    // Counts changes of what is not a parameter, for whoever has to follow them.
    uint32_t version() const { return version_.load(std::memory_order_acquire); }

    // Any thread but the audio thread: these take a lock.
    State state() const;
    void set_state(const State& state);
    std::string endpoint() const;
    void set_endpoint(const std::string& endpoint);

    // Gives the slots the meanings that they have for the pack of this number, false where they have them, and the bank
    // what it suggests.
    bool follow_pack(uint32_t number);

    Packs packs;
    Slots slots;
    PackTexts texts;
    Prompts prompts;

    net::Pack chosen() const { return packs.description(packs.name(static_cast<uint32_t>(value(kPack)))); }

    // What a session with this pack is to play by while Prompt is at this slot; and how often that may have changed.
    NamedTexts texts_for(const net::Pack& pack, uint32_t slot) const;
    uint32_t texts_version() const { return texts.version() + prompts.version(); }

  private:
    std::atomic<double> values_[kParameterCount];  // of those that are kept by number
    std::atomic<uint32_t> version_{0};
    mutable std::mutex mutex_;
    std::string endpoint_;  // under it
    std::string followed_;  // the pack that the slots follow, as it was described at `followed_revision_`
    uint32_t followed_revision_ = 0;
};

}  // namespace backline
