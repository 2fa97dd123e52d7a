// CLAP's events and transport in the core's terms.
#include "events.h"

#include <algorithm>
#include <cmath>

namespace backline::clap {
namespace {

constexpr uint8_t kNoteOff = 0x80;
constexpr uint8_t kNoteOn = 0x90;
constexpr uint8_t kControlChange = 0xb0;
constexpr uint8_t kAllNotesOff = 123;

Event midi_event(uint32_t frame, uint8_t status, uint8_t first, uint8_t second, uint8_t size = 3) {
    Event event;
    event.kind = Event::Kind::midi;
    event.frame = frame;
    event.midi[0] = status;
    event.midi[1] = first;
    event.midi[2] = size == 3 ? second : uint8_t{0};
    event.midi_size = size;
    return event;
}

// A note that begins or ends. Negative channels and keys stand for all of them, which only an end may name.
size_t translate_note(const clap_event_note_t& note, uint32_t frame, Event* out) {
    const bool begins = note.header.type == CLAP_EVENT_NOTE_ON;
    if (note.port_index > 0 || note.channel > 15 || note.key > 127) return 0;
    if (begins && (note.channel < 0 || note.key < 0)) return 0;
    const double share = std::isfinite(note.velocity) ? std::clamp(note.velocity, 0.0, 1.0) : 0.0;
    // In MIDI velocity 0 would end the note; in CLAP it begins it silently.
    const auto velocity = static_cast<uint8_t>(std::max(begins ? 1L : 0L, std::lround(share * 127.0)));
    const int first = std::max<int>(note.channel, 0), last = note.channel < 0 ? 15 : note.channel;
    size_t count = 0;
    for (int channel = first; channel <= last; ++channel) {
        const auto key = static_cast<uint8_t>(std::max<int>(note.key, 0));
        if (note.key < 0) {
            out[count++] = midi_event(frame, static_cast<uint8_t>(kControlChange | channel), kAllNotesOff, 0);
        } else {
            out[count++] =
                midi_event(frame, static_cast<uint8_t>((begins ? kNoteOn : kNoteOff) | channel), key, velocity);
        }
    }
    return count;
}

size_t translate_midi(const clap_event_midi_t& midi, uint32_t frame, Event* out) {
    const uint8_t status = midi.data[0], kind = status & 0xf0;
    if (midi.port_index != 0 || kind < kNoteOff || kind == 0xf0) return 0;  // no system messages
    const uint8_t size = kind == 0xc0 || kind == 0xd0 ? 2 : 3;  // program change and channel pressure are shorter
    if (midi.data[1] > 127 || (size == 3 && midi.data[2] > 127)) return 0;
    out[0] = midi_event(frame, status, midi.data[1], midi.data[2], size);
    return 1;
}

template <typename Kind>
const Kind* as(const clap_event_header_t& event) {
    return event.size >= sizeof(Kind) ? reinterpret_cast<const Kind*>(&event) : nullptr;
}

double quarters(clap_beattime time) {
    return static_cast<double>(time) / static_cast<double>(CLAP_BEATTIME_FACTOR);
}

}  // namespace

size_t translate(const clap_event_header_t& event, uint32_t frame, Event* out) {
    if (event.space_id != CLAP_CORE_EVENT_SPACE_ID) return 0;
    switch (event.type) {
        case CLAP_EVENT_PARAM_VALUE: {
            Event change;
            change.kind = Event::Kind::parameter;
            change.frame = frame;
            if (!read_parameter(event, change.parameter, change.value)) return 0;
            *out = change;
            return 1;
        }
        case CLAP_EVENT_NOTE_ON:
        case CLAP_EVENT_NOTE_OFF:
        case CLAP_EVENT_NOTE_CHOKE: {
            const auto* note = as<clap_event_note_t>(event);
            return note ? translate_note(*note, frame, out) : 0;
        }
        case CLAP_EVENT_MIDI: {
            const auto* midi = as<clap_event_midi_t>(event);
            return midi ? translate_midi(*midi, frame, out) : 0;
        }
        default:
            return 0;
    }
}

bool read_parameter(const clap_event_header_t& event, uint32_t& parameter, double& value) {
    if (event.space_id != CLAP_CORE_EVENT_SPACE_ID || event.type != CLAP_EVENT_PARAM_VALUE) return false;
    const auto* change = as<clap_event_param_value_t>(event);
    if (!change || change->param_id >= kParameterCount || std::isnan(change->value)) return false;
    const ParameterInfo& info = parameters()[change->param_id];
    if (info.read_only) return false;
    parameter = change->param_id;
    const double clamped = std::clamp(change->value, info.minimum, info.maximum);
    value = info.stepped ? std::trunc(clamped) : clamped;  // CLAP truncates where others round
    return true;
}

bool read_transport(const clap_event_transport_t& event, Transport& transport) {
    const uint32_t flags = event.flags;
    if (!(flags & CLAP_TRANSPORT_HAS_TEMPO) || !(event.tempo > 0.0 && event.tempo < 1000.0)) return false;
    transport = Transport();
    transport.playing = flags & CLAP_TRANSPORT_IS_PLAYING;
    transport.tempo = event.tempo;
    const uint32_t denominator = event.tsig_denom;
    const bool is_a_power = denominator && !(denominator & (denominator - 1));
    if (flags & CLAP_TRANSPORT_HAS_TIME_SIGNATURE && is_a_power && denominator <= 64 && event.tsig_num - 1u < 64) {
        transport.numerator = event.tsig_num;
        transport.denominator = denominator;
    }
    if (flags & CLAP_TRANSPORT_HAS_BEATS_TIMELINE) {
        transport.song_position = quarters(event.song_pos_beats);
        transport.bar_start = quarters(event.bar_start);
        transport.looping = flags & CLAP_TRANSPORT_IS_LOOP_ACTIVE;
        transport.loop_start = quarters(event.loop_start_beats);
        transport.loop_end = quarters(event.loop_end_beats);
    } else if (flags & CLAP_TRANSPORT_HAS_SECONDS_TIMELINE) {  // as if the tempo had always been this one
        const double bar = 4.0 * transport.numerator / transport.denominator;
        const double seconds = static_cast<double>(event.song_pos_seconds) / static_cast<double>(CLAP_SECTIME_FACTOR);
        transport.song_position = seconds * event.tempo / 60.0;
        transport.bar_start = std::floor(transport.song_position / bar) * bar;
    }
    return true;
}

void advance(Transport& transport, uint32_t frames, double sample_rate) {
    if (!transport.playing) return;
    transport.song_position += frames / sample_rate * transport.tempo / 60.0;
    const double bar = 4.0 * transport.numerator / transport.denominator;
    const double bars = std::floor((transport.song_position - transport.bar_start) / bar);
    if (bars >= 1.0) transport.bar_start += bars * bar;
}

}  // namespace backline::clap
