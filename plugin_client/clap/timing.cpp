// What the host plans with: latency, tail, and whether it plays or bounces.
#include <clap/ext/latency.h>

#include "extensions.h"
#include "instance.h"

namespace backline::clap {
namespace {

uint32_t get_latency(const clap_plugin_t* plugin) {
    Instance& self = instance_of(plugin);
    self.latency_told = self.plugin.latency_samples(self.sample_rate);
    return self.latency_told;
}

// How long a pack plays on in silence is the pack's own affair; bypassed, only the delayed input is left.
uint32_t get_tail(const clap_plugin_t* plugin) {
    const Instance& self = instance_of(plugin);
    return self.plugin.parameter(kBypass) >= 0.5 ? self.plugin.latency_samples(self.sample_rate) : kInfiniteTail;
}

bool has_hard_realtime_requirement(const clap_plugin_t*) {
    return false;
}

bool set_render_mode(const clap_plugin_t* plugin, int32_t mode) {
    if (mode != kRenderRealtime && mode != kRenderOffline) return false;
    instance_of(plugin).plugin.set_offline(mode == kRenderOffline);
    return true;
}

constexpr clap_plugin_latency_t kLatency = {get_latency};
constexpr TailExtension kTail = {get_tail};
constexpr RenderExtension kRender = {has_hard_realtime_requirement, set_render_mode};

}  // namespace

const void* latency_extension() {
    return &kLatency;
}

const void* tail_extension() {
    return &kTail;
}

const void* render_extension() {
    return &kRender;
}

}  // namespace backline::clap
