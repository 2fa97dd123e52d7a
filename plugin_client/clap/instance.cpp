// A CLAP instance's life: created, activated, played block by block, destroyed.
#include "instance.h"

#include <clap/ext/audio-ports.h>
#include <clap/ext/note-ports.h>
#include <clap/ext/state.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "extensions.h"

namespace backline::clap {
namespace {

// Null where the host gives no such port, or gives it in 64 bits, which we do not offer.
float** channels_of(const clap_audio_buffer_t* buffers, uint32_t count, uint32_t port) {
    return buffers && port < count && buffers[port].channel_count ? buffers[port].data32 : nullptr;
}

void read_input(const clap_process_t& process, uint32_t port, const float* (&input)[kChannels]) {
    float** channels = channels_of(process.audio_inputs, process.audio_inputs_count, port);
    if (!channels) return;
    const uint32_t last = process.audio_inputs[port].channel_count - 1;  // 0: mono is heard on both sides
    for (uint32_t channel = 0; channel < kChannels; ++channel) input[channel] = channels[std::min(channel, last)];
}

void read_output(const clap_process_t& process, uint32_t port, float* (&output)[kChannels]) {
    float** channels = channels_of(process.audio_outputs, process.audio_outputs_count, port);
    if (!channels) return;
    clap_audio_buffer_t& buffer = process.audio_outputs[port];
    std::copy_n(channels, std::min(kChannels, buffer.channel_count), output);
    buffer.constant_mask = 0;
}

Block read_block(const clap_process_t& process) {
    Block block;
    read_input(process, 0, block.main_input);
    read_input(process, 1, block.sidechain);
    for (uint32_t port = 0; port < kOutputs; ++port) read_output(process, port, block.outputs[port]);
    return block;
}

void skip(Block& block, uint32_t frames) {
    const auto move = [frames](auto*& pointer) {
        if (pointer) pointer += frames;
    };
    std::for_each_n(block.main_input, kChannels, move);
    std::for_each_n(block.sidechain, kChannels, move);
    for (auto& output : block.outputs) std::for_each_n(output, kChannels, move);
}

// Plays a block in runs: one ends where the host changes its transport, or where the room for events is full.
void play(Instance& self, const clap_process_t& process) {
    Block block = read_block(process);
    Transport transport;
    bool told = process.transport && read_transport(*process.transport, transport);
    const clap_input_events_t* list = process.in_events;
    const uint32_t count = list ? list->size(list) : 0, frames = process.frames_count;
    uint32_t start = 0, next = 0;
    do {
        uint32_t newest = start, end = frames;
        size_t filled = 0;
        const clap_event_transport_t* change = nullptr;
        while (next < count && !change) {
            if (filled + kMostOfOne > kEventRoom) {
                end = std::min(newest + 1, frames);
                break;
            }
            const clap_event_header_t* event = list->get(list, next++);
            if (!event) continue;
            newest = std::clamp(event->time, newest, std::max(newest, frames ? frames - 1 : 0));
            if (event->space_id == CLAP_CORE_EVENT_SPACE_ID && event->type == CLAP_EVENT_TRANSPORT &&
                event->size >= sizeof(clap_event_transport_t)) {
                change = reinterpret_cast<const clap_event_transport_t*>(event);
                end = newest;
            } else {
                filled += translate(*event, newest - start, self.events.data() + filled);
            }
        }
        block.frames = end - start;
        block.events = self.events.data();
        block.event_count = filled;
        block.transport = told ? &transport : nullptr;
        if (block.frames || filled) self.plugin.process(block);
        skip(block, block.frames);
        if (told) advance(transport, block.frames, self.sample_rate);
        if (change) told = read_transport(*change, transport);
        start = end;
    } while (start < frames || next < count);
}

bool init(const clap_plugin_t* plugin) {
    Instance& self = instance_of(plugin);
    const auto ask = [&self](const char* id) { return self.host->get_extension(self.host, id); };
    self.last_pack_told = self.plugin.maximum(kPack);
    if (!self.host->get_extension) return true;
    self.host_params = static_cast<const clap_host_params_t*>(ask(CLAP_EXT_PARAMS));
    self.host_latency = static_cast<const clap_host_latency_t*>(ask(CLAP_EXT_LATENCY));
    return true;
}

void destroy(const clap_plugin_t* plugin) {
    delete &instance_of(plugin);
}

bool activate(const clap_plugin_t* plugin, double sample_rate, uint32_t, uint32_t max_frames) {
    Instance& self = instance_of(plugin);
    if (self.plugin.active()) return false;
    self.tell_packs();
    if (!self.plugin.activate(sample_rate, max_frames)) return false;
    self.sample_rate = sample_rate;
    // The one moment at which both CLAP 1.1 and 1.2 let the latency change.
    const uint32_t latency = self.plugin.latency_samples(sample_rate);
    if (latency != self.latency_told && self.host_latency) self.host_latency->changed(self.host);
    self.latency_told = latency;
    return true;
}

void deactivate(const clap_plugin_t* plugin) {
    Instance& self = instance_of(plugin);
    self.plugin.deactivate();
    self.notify_host();
}

bool start_processing(const clap_plugin_t* plugin) {
    return instance_of(plugin).plugin.active();
}

void stop_processing(const clap_plugin_t*) {}

void reset(const clap_plugin_t* plugin) {
    Instance& self = instance_of(plugin);
    if (self.plugin.active()) self.plugin.reset();
}

clap_process_status process(const clap_plugin_t* plugin, const clap_process_t* process) {
    Instance& self = instance_of(plugin);
    if (!process || !self.plugin.active()) return CLAP_PROCESS_ERROR;
    play(self, *process);
    self.notify_host();
    return CLAP_PROCESS_CONTINUE;  // also in silence: the band plays on
}

const void* get_extension(const clap_plugin_t*, const char* id) {
    const std::string_view name = id ? id : "";
    if (name == CLAP_EXT_AUDIO_PORTS) return audio_ports_extension();
    if (name == CLAP_EXT_NOTE_PORTS) return note_ports_extension();
    if (name == CLAP_EXT_PARAMS) return params_extension();
    if (name == CLAP_EXT_STATE) return state_extension();
    if (name == CLAP_EXT_LATENCY) return latency_extension();
    if (name == kTailExtension) return tail_extension();
    if (name == kRenderExtension) return render_extension();
    return nullptr;
}

// What notify_host() asked for: the status has another value, and it or the seed another text, or the pack has named its
// parameters.
void on_main_thread(const clap_plugin_t* plugin) {
    instance_of(plugin).tell_values();
}

}  // namespace

Instance::Instance(const clap_host_t* host)
    : abi{&kDescriptor,    this,  init,    destroy,       activate,      deactivate, start_processing,
          stop_processing, reset, process, get_extension, on_main_thread},
      host(host) {}

void Instance::tell_packs() {
    plugin.show_packs();
    const double last = plugin.maximum(kPack);
    if (last_pack_told.exchange(last) != last && host_params) host_params->rescan(host, CLAP_PARAM_RESCAN_ALL);
}

void Instance::tell_values() {
    const uint32_t names = plugin.renames();
    const bool renamed = renames_told.exchange(names) != names;
    const uint32_t flags = CLAP_PARAM_RESCAN_VALUES | CLAP_PARAM_RESCAN_TEXT | (renamed ? CLAP_PARAM_RESCAN_INFO : 0);
    if (host_params) host_params->rescan(host, flags);
}

void Instance::notify_host() {
    if (!plugin.active()) plugin.follow_pack();
    const bool packs = host_params && (plugin.more_packs() || plugin.maximum(kPack) != last_pack_told);
    const bool restart = plugin.active() && (plugin.wants_restart() || packs);
    if (restart_requested.exchange(restart) != restart && restart) host->request_restart(host);
    const Status status = plugin.status();
    const uint64_t changes = plugin.changes();
    const bool other_status = status_shown.exchange(status) != status;
    const bool other_text = changes_shown.exchange(changes) != changes;
    const uint32_t names = plugin.renames();
    const bool other_names = names != renames_told && renames_shown.exchange(names) != names;
    if (other_status || other_text || other_names) host->request_callback(host);
}

}  // namespace backline::clap
