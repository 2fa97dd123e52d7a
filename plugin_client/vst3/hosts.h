// The host that a VST3 object lives in: who it is, what it is to be told, and when.
//
// What the host is to be told (another latency, another text) comes up on the audio thread or on the worker, and
// IComponentHandler belongs to the main thread. There is no way to have it called; but whatever the processor tells in
// its output parameters the host hands to the controller, on the main thread: so the status is told once more, and when
// it arrives there the host is told the rest.
#pragma once

#include <base.h>

#include <cstdint>

namespace backline::vst3 {

struct Instance;

// Ardour and Mixbus (their source: libs/ardour/vst3_plugin.cc)
// - show a read-only value as a bare number, and any other by our text;
// - show again what restartComponent(kParamValuesChanged) finds changed, but not what comes in output parameters;
// - hand nothing to the controller by themselves, but take restartComponent() on the audio thread;
// - keep values, which they compare, as float, and automation in plain units.
bool is_ardour(v3_funknown** context);

// [any] Notes what the host does not know yet; of the parameters that the pack names, or all.
void note_names(Instance& instance) noexcept;
void note_news(Instance& instance) noexcept;

// [main; audio in Ardour] Tells the host what has changed (V3_RESTART_...), and what has been noted.
void tell_host(Instance& instance, int32_t changed) noexcept;

}  // namespace backline::vst3
