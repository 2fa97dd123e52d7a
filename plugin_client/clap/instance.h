// One CLAP instance: the plugin's core, the host it lives in, and what the host has been told.
#pragma once

#include <clap/ext/latency.h>
#include <clap/ext/params.h>
#include <clap/plugin.h>

#include <atomic>

#include "../core/plugin.h"
#include "events.h"

namespace backline::clap {

struct Instance {
    explicit Instance(const clap_host_t* host);

    clap_plugin_t abi;  // what the host holds; its plugin_data points here
    const clap_host_t* host;
    const clap_host_params_t* host_params = nullptr;    // null: the host has none
    const clap_host_latency_t* host_latency = nullptr;  // null: the host has none
    Plugin plugin;
    EventRoom events;
    double sample_rate = 48000.0;  // of the newest activation
    uint32_t latency_told = 0;     // [main] what the host last heard of the latency
    std::atomic<double> last_pack_told{0.0};  // and of the range of Pack
    std::atomic<bool> restart_requested{false};
    std::atomic<Status> status_shown{Status::idle};
    std::atomic<uint64_t> changes_shown{0};
    std::atomic<uint32_t> renames_shown{0}, renames_told{0};

    // [any] Asks for what only the host can do: a restart where the latency or a range is to change, a new look at the
    // status. Called wherever any may have changed; asks once for each change.
    void notify_host();
    // [main] Tells the host to look at values and texts again, and at names where they have changed.
    void tell_values();
    // [main, inactive: only then may a range change] Tells the host of packs that it does not know.
    void tell_packs();
};

inline Instance& instance_of(const clap_plugin_t* plugin) {
    return *static_cast<Instance*>(plugin->plugin_data);
}

extern const clap_plugin_descriptor_t kDescriptor;

// The tables of the extensions, each in the file of its subject.
const void* audio_ports_extension();
const void* note_ports_extension();
const void* params_extension();
const void* state_extension();
const void* latency_extension();
const void* tail_extension();
const void* render_extension();

}  // namespace backline::clap
