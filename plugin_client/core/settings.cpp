// The lists and texts among the settings, and all of them at once.
#include "settings.h"

#include <algorithm>
#include <utility>

namespace backline {

Settings::Settings() {
    for (uint32_t index = 0; index < kParameterCount; ++index) set_value(index, parameters()[index].initial);
}

State Settings::state() const {
    State state;
    for (uint32_t index = 0; index < kParameterCount; ++index) state.values[index] = value(index);
    const std::lock_guard lock(mutex_);
    state.endpoint = endpoint_;
    state.packs = packs_;
    return state;
}

void Settings::set_state(const State& state) {
    std::vector<std::string> known;
    {
        const std::lock_guard lock(mutex_);
        endpoint_ = state.endpoint;
        known = std::exchange(packs_, state.packs);
    }
    add_packs(known);
    for (uint32_t index = 0; index < kStatus; ++index) set_value(index, state.values[index]);
    ++version_;
}

std::string Settings::endpoint() const {
    const std::lock_guard lock(mutex_);
    return endpoint_;
}

void Settings::set_endpoint(const std::string& endpoint) {
    {
        const std::lock_guard lock(mutex_);
        endpoint_ = endpoint;
    }
    ++version_;
}

std::vector<std::string> Settings::packs() const {
    const std::lock_guard lock(mutex_);
    return packs_;
}

std::string Settings::pack(uint32_t number) const {
    const std::lock_guard lock(mutex_);
    return number < packs_.size() ? packs_[number] : "";
}

void Settings::add_packs(const std::vector<std::string>& names) {
    const std::lock_guard lock(mutex_);
    for (const std::string& name : names) {
        const bool known = std::find(packs_.begin(), packs_.end(), name) != packs_.end();
        if (!known && packs_.size() < kMaximumPacks) packs_.push_back(name);
    }
}

}  // namespace backline
