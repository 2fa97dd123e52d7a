// The text among the settings, and all of them at once.
#include "settings.h"

namespace backline {

Settings::Settings() {
    for (uint32_t index = 0; index < kParameterCount; ++index) set_value(index, parameters()[index].initial);
}

State Settings::state() const {
    State state;
    for (uint32_t index = 0; index < kParameterCount; ++index) state.values[index] = value(index);
    state.packs = packs.state();
    state.endpoint = endpoint();
    return state;
}

void Settings::set_state(const State& state) {
    {
        const std::lock_guard lock(mutex_);
        endpoint_ = state.endpoint;
    }
    packs.set_state(state.packs);
    for (uint32_t index = 0; index < kStatus; ++index) set_value(index, state.values[index]);
    if (state.values[kPack] >= state.packs.names.size()) set_value(kPack, parameters()[kPack].initial);  // names none
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

}  // namespace backline
