// MIDI for which there was no room: of what can be said again later, the newest value; of notes, that they have ended.
#pragma once

#include <algorithm>
#include <bitset>
#include <cstddef>
#include <cstdint>

namespace backline {

// One thread; no allocation. A note that begins late is none, but one that never ends sounds for ever.
class MidiBacklog {
  public:
    MidiBacklog() {
        for (auto& channel : controllers_) std::fill_n(channel, kControllers, kNone);
    }

    bool empty() const { return kept_ == 0; }

    // Keeps the channel message until `take`; false where it is lost: a note's begin, or its pressure.
    bool keep(const uint8_t* midi, size_t size) {
        const uint8_t kind = midi[0] & 0xf0, channel = midi[0] & 0x0f;
        const uint8_t first = size > 1 ? midi[1] & 0x7f : 0, second = size > 2 ? midi[2] & 0x7f : 0;
        const size_t note = size_t{channel} * kKeys + first;
        switch (kind) {
            case 0x80:
                return set(note);
            case 0x90:
                return second == 0 && set(note);
            case 0xb0:
                return put(channel, first, second);
            case 0xc0:
                return put(channel, kProgram, first);
            case 0xd0:
                return put(channel, kPressure, first);
            case 0xe0:
                return put(channel, kBend, static_cast<int16_t>(second << 7 | first));
            default:
                return false;
        }
    }

    // The next message that is owed, ends of notes first; 0 where there is none. Returns its size.
    uint8_t take(uint8_t (&midi)[3]) {
        if (kept_ == 0) return 0;
        --kept_;
        for (size_t note = 0; note < ends_.size(); ++note) {
            if (!ends_[note]) continue;
            ends_[note] = false;
            return write(midi, 0x80, note / kKeys, note % kKeys, 0, 3);
        }
        for (size_t channel = 0; channel < kChannelsOfMidi; ++channel) {
            for (int index = 0; index < kControllers; ++index) {
                const int16_t value = controllers_[channel][index];
                if (value == kNone) continue;
                controllers_[channel][index] = kNone;
                if (index == kProgram) return write(midi, 0xc0, channel, value, 0, 2);
                if (index == kPressure) return write(midi, 0xd0, channel, value, 0, 2);
                if (index == kBend) return write(midi, 0xe0, channel, value & 0x7f, value >> 7, 3);
                return write(midi, 0xb0, channel, index, value, 3);
            }
        }
        return 0;
    }

  private:
    static constexpr size_t kChannelsOfMidi = 16, kKeys = 128;
    static constexpr int kProgram = 128, kPressure = 129, kBend = 130, kControllers = 131;  // behind the controllers
    static constexpr int16_t kNone = -1;

    bool set(size_t note) {
        kept_ += !ends_[note];
        ends_[note] = true;
        return true;
    }
    bool put(uint8_t channel, int index, int16_t value) {
        kept_ += controllers_[channel][index] == kNone;
        controllers_[channel][index] = value;
        return true;
    }
    static uint8_t write(uint8_t (&midi)[3], int kind, size_t channel, size_t first, int second, uint8_t size) {
        midi[0] = static_cast<uint8_t>(kind | static_cast<int>(channel));
        midi[1] = static_cast<uint8_t>(first);
        midi[2] = static_cast<uint8_t>(second);
        return size;
    }

    std::bitset<kChannelsOfMidi * kKeys> ends_;
    int16_t controllers_[kChannelsOfMidi][kControllers];
    size_t kept_ = 0;
};

}  // namespace backline
