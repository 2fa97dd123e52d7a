// Audio ports (main in and out, a sidechain, a stem each) and the note port.
#include <clap/ext/audio-ports.h>
#include <clap/ext/note-ports.h>

#include <cstdio>

#include "instance.h"

namespace backline::clap {
namespace {

constexpr clap_id kMainPort = 0;       // the same id on both sides: they may share memory
constexpr clap_id kSidechainPort = 1;  // of the inputs; outputs 1 and up are stems

uint32_t count_audio(const clap_plugin_t*, bool is_input) {
    return is_input ? 2 : kOutputs;
}

bool get_audio(const clap_plugin_t* plugin, uint32_t index, bool is_input, clap_audio_port_info_t* info) {
    if (!info || index >= count_audio(plugin, is_input)) return false;
    *info = {};
    info->id = index;
    info->channel_count = kChannels;
    info->port_type = CLAP_PORT_STEREO;
    info->in_place_pair = CLAP_INVALID_ID;
    if (index == kMainPort) {
        info->flags = CLAP_AUDIO_PORT_IS_MAIN;
        info->in_place_pair = kMainPort;
        std::snprintf(info->name, sizeof info->name, "%s", is_input ? "Input" : "Output");
    } else if (is_input && index == kSidechainPort) {
        std::snprintf(info->name, sizeof info->name, "Sidechain");
    } else {
        std::snprintf(info->name, sizeof info->name, "Stem %u", index);
    }
    return true;
}

uint32_t count_notes(const clap_plugin_t*, bool is_input) {
    return is_input ? 1 : 0;
}

bool get_notes(const clap_plugin_t* plugin, uint32_t index, bool is_input, clap_note_port_info_t* info) {
    if (!info || index >= count_notes(plugin, is_input)) return false;
    *info = {};
    info->supported_dialects = CLAP_NOTE_DIALECT_CLAP | CLAP_NOTE_DIALECT_MIDI;
    info->preferred_dialect = CLAP_NOTE_DIALECT_MIDI;  // what goes to the server
    std::snprintf(info->name, sizeof info->name, "Notes");
    return true;
}

constexpr clap_plugin_audio_ports_t kAudioPorts = {count_audio, get_audio};
constexpr clap_plugin_note_ports_t kNotePorts = {count_notes, get_notes};

}  // namespace

const void* audio_ports_extension() {
    return &kAudioPorts;
}

const void* note_ports_extension() {
    return &kNotePorts;
}

}  // namespace backline::clap
