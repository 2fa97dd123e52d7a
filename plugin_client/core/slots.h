// The parameters that the chosen pack names: which of the pack's they stand for, and their values.
//
// Hosts see each as 0 to 1, whatever the pack's range: names, texts and steps may change while a host plays, ranges may
// not. A value is kept by the name of the pack's parameter, in the pack's own unit, and only where it is not the pack's
// default: so a pack that has changed, or another one that has such a parameter, finds its own again.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "net/messages.h"
#include "parameters.h"

namespace backline {

using NamedValues = std::map<std::string, double>;

// What a pack's slots stand for, in their order: its first parameters that the plugin has not got under their own name.
std::vector<net::PackParameter> slots_of(const net::Pack& pack);

// Between 0 to 1 and the parameter's own unit.
double slot_to_plain(const net::PackParameter& parameter, double value);
double slot_from_plain(const net::PackParameter& parameter, double plain);
uint32_t slot_steps(const net::PackParameter& parameter);  // 0: continuous

// As users read and write it: a label, or a number with its unit. False where the text says nothing or is out of range.
std::string slot_to_text(const net::PackParameter& parameter, double value);
bool slot_from_text(const net::PackParameter& parameter, const std::string& text, double& value);

// One slot after the other is read and written by the audio thread while another thread gives all of them new meanings.
class Slots {
  public:
    // Any thread; the audio thread too. A slot that stands for nothing is 0 and stays so.
    double value(uint32_t slot) const { return values_[slot].load(std::memory_order_acquire); }
    void set_value(uint32_t slot, double value);
    uint32_t used() const { return used_.load(std::memory_order_acquire); }
    uint32_t binding() const { return binding_.load(std::memory_order_acquire); }  // another one: other meanings
    // The value, and the binding by which it means something. False while they change: ask again later.
    bool read(uint32_t slot, double& value, uint32_t& binding) const {
        binding = this->binding();
        value = this->value(slot);
        return binding % 2 == 0 && binding_.load(std::memory_order_relaxed) == binding;
    }

    uint32_t renames() const { return renames_; }  // how often they have got other names

    // Any thread but the audio thread: these take a lock.
    bool bind(const net::Pack& pack);  // false where the slots stand for that already
    NamedValues named() const;
    void set_named(const NamedValues& values);
    bool describe(uint32_t slot, net::PackParameter& parameter) const;  // false: it stands for nothing

  private:
    NamedValues present() const;
    void rebind();

    mutable std::mutex mutex_;
    std::vector<net::PackParameter> parameters_;  // that the slots stand for
    NamedValues named_;
    std::atomic<double> values_[kSlots] = {};
    std::atomic<uint32_t> steps_[kSlots] = {};
    std::atomic<uint32_t> used_{0};
    std::atomic<uint32_t> binding_{0};  // odd while it changes
    std::atomic<uint32_t> renames_{0};
};

}  // namespace backline
