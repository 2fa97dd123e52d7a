// What happens within a block, out of VST3's queues of parameter points and its list of notes: one list by frame.
#include "events.h"

#include <algorithm>
#include <cmath>

#include "values.h"

namespace backline::vst3 {

namespace {

uint32_t frame_within(int32_t offset, uint32_t frames) {
    const int32_t last = frames > 0 ? static_cast<int32_t>(frames) - 1 : 0;
    return static_cast<uint32_t>(std::clamp(offset, 0, last));
}

uint8_t seven_bits(float share) {
    return static_cast<uint8_t>(std::lround(std::clamp(std::isfinite(share) ? share : 0.0f, 0.0f, 1.0f) * 127.0f));
}

// The note as a MIDI message; false for what MIDI 1.0 has no channel message for.
bool to_midi(const v3_event& note, Event& event) {
    const auto set = [&](uint8_t status, int16_t channel, int16_t pitch, uint8_t value) {
        if (channel < 0 || channel > 15 || pitch < 0 || pitch > 127) return false;
        event.kind = Event::Kind::midi;
        event.midi[0] = static_cast<uint8_t>(status | channel);
        event.midi[1] = static_cast<uint8_t>(pitch);
        event.midi[2] = value;
        event.midi_size = 3;
        return true;
    };
    switch (note.type) {
        case V3_EVENT_NOTE_ON: {
            const v3_event_note_on& on = note.note_on;
            // A note on of velocity 0 would be a note off to MIDI.
            return set(0x90, on.channel, on.pitch, std::max<uint8_t>(1, seven_bits(on.velocity)));
        }
        case V3_EVENT_NOTE_OFF:
            return set(0x80, note.note_off.channel, note.note_off.pitch, seven_bits(note.note_off.velocity));
        case V3_EVENT_POLY_PRESSURE: {
            const v3_event_poly_pressure& pressure = note.poly_pressure;
            return set(0xA0, pressure.channel, pressure.pitch, seven_bits(pressure.pressure));
        }
        default:
            return false;
    }
}

}  // namespace

void EventList::clear() {
    count_ = 0;
    lost_ = 0;
    while (!backlog_.empty() && count_ < events_.size()) {
        Event& event = events_[count_++];
        event = Event();
        event.kind = Event::Kind::midi;
        event.midi_size = backlog_.take(event.midi);
    }
}

void EventList::add_parameters(v3_param_changes** changes, uint32_t frames, Plugin& plugin, uint32_t packs) {
    if (changes == nullptr) return;
    const int32_t queues = v3_cpp_obj(changes)->get_param_count(changes);
    for (int32_t index = 0; index < queues; ++index) {
        v3_param_value_queue** queue = v3_cpp_obj(changes)->get_param_data(changes, index);
        if (queue == nullptr) continue;
        const uint32_t parameter = v3_cpp_obj(queue)->get_param_id(queue);
        if (parameter >= kParameterCount || parameters()[parameter].read_only) continue;
        const int32_t points = v3_cpp_obj(queue)->get_point_count(queue);
        for (int32_t point = 0; point < points; ++point) {
            int32_t offset = 0;
            double value = 0.0;
            if (v3_cpp_obj(queue)->get_point(queue, point, &offset, &value) != V3_OK) continue;
            Event event;
            event.frame = frame_within(offset, frames);
            event.parameter = parameter;
            event.value = to_plain(parameter, value, packs);
            if (!add(event)) plugin.set_parameter(parameter, event.value);
        }
    }
}

void EventList::add_notes(v3_event_list** notes, uint32_t frames) {
    if (notes == nullptr) return;
    const uint32_t count = v3_cpp_obj(notes)->get_event_count(notes);
    for (uint32_t index = 0; index < count; ++index) {
        v3_event note = {};
        if (v3_cpp_obj(notes)->get_event(notes, static_cast<int32_t>(index), &note) != V3_OK) continue;
        Event event;
        event.frame = frame_within(note.sample_offset, frames);
        if (to_midi(note, event) && !add(event) && !backlog_.keep(event.midi, event.midi_size)) ++lost_;
    }
}

// After all that has the same frame: points of one parameter and notes keep their order.
bool EventList::add(const Event& event) {
    if (count_ == events_.size()) return false;
    const auto end = events_.begin() + static_cast<std::ptrdiff_t>(count_);
    const auto place = std::upper_bound(events_.begin(), end, event,
                                        [](const Event& one, const Event& other) { return one.frame < other.frame; });
    std::move_backward(place, end, end + 1);
    *place = event;
    ++count_;
    return true;
}

}  // namespace backline::vst3
