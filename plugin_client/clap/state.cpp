// Saving and loading through streams that take and give as little at a time as they like.
#include <clap/ext/state.h>

#include <cstdint>
#include <vector>

#include "instance.h"

namespace backline::clap {
namespace {

constexpr size_t kLargestState = 1 << 20;  // bytes; what is longer is not ours

bool save(const clap_plugin_t* plugin, const clap_ostream_t* stream) {
    if (!stream) return false;
    const std::vector<uint8_t> state = instance_of(plugin).plugin.save_state();
    for (size_t done = 0; done < state.size();) {
        const int64_t written = stream->write(stream, state.data() + done, state.size() - done);
        if (written <= 0 || static_cast<uint64_t>(written) > state.size() - done) return false;
        done += static_cast<size_t>(written);
    }
    return true;
}

bool load(const clap_plugin_t* plugin, const clap_istream_t* stream) {
    if (!stream) return false;
    Instance& self = instance_of(plugin);
    std::vector<uint8_t> state;
    uint8_t buffer[4096];
    while (const int64_t got = stream->read(stream, buffer, sizeof buffer)) {
        if (got < 0 || got > static_cast<int64_t>(sizeof buffer) || state.size() + got > kLargestState) return false;
        state.insert(state.end(), buffer, buffer + got);
    }
    if (!self.plugin.load_state(state.data(), state.size())) return false;
    if (!self.plugin.active()) self.tell_packs();
    self.tell_values();
    self.notify_host();
    return true;
}

constexpr clap_plugin_state_t kState = {save, load};

}  // namespace

const void* state_extension() {
    return &kState;
}

}  // namespace backline::clap
