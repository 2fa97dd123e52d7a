// What a host's MIDI has come to: keys that are down, notes that the sustain pedal holds, and the pedal itself.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace backline {

class HeldNotes {
  public:
    static constexpr uint8_t kChannelsOfMidi = 16;

    // Takes in a channel message; those of less than three bytes are not about notes.
    void take(const uint8_t (&midi)[3]) {
        Channel& channel = channels_[midi[0] & 0x0f];
        const uint8_t first = midi[1] & 0x7f, second = midi[2] & 0x7f;
        switch (midi[0] & 0xf0) {
            case 0x90:
                if (second == 0) return release(channel, first);
                channel.velocity[first] = second;
                channel.down[first] = true;
                return;
            case 0x80:
                return release(channel, first);
            case 0xb0:
                return control(channel, first, second);
        }
    }

    // Whole messages, at most 771 bytes, by which whoever knows nothing comes to know the same of this channel; none
    // where nothing sounds and the pedal is up.
    std::vector<uint8_t> told(uint8_t number) const {
        const Channel& channel = channels_[number];
        std::vector<uint8_t> out;
        const auto put = [&](int kind, size_t first, int second) {
            out.push_back(static_cast<uint8_t>(kind | number));
            out.push_back(static_cast<uint8_t>(first));
            out.push_back(static_cast<uint8_t>(second));
        };
        for (size_t key = 0; key < kKeys; ++key)
            if (channel.velocity[key]) put(0x90, key, channel.velocity[key]);
        if (channel.pedal) put(0xb0, kPedal, 127);
        for (size_t key = 0; key < kKeys; ++key)
            if (channel.velocity[key] && !channel.down[key]) put(0x80, key, 0);
        return out;
    }

    // By which nothing of the channel is held any more.
    static std::array<uint8_t, 3> all_off(uint8_t number) { return {static_cast<uint8_t>(0xb0 | number), kNotesOff, 0}; }

  private:
    static constexpr size_t kKeys = 128;
    static constexpr uint8_t kPedal = 64, kSoundOff = 120, kResetControllers = 121, kNotesOff = 123;

    struct Channel {
        uint8_t velocity[kKeys] = {};  // of what sounds
        std::bitset<kKeys> down;
        bool pedal = false;
    };

    static void release(Channel& channel, uint8_t key) {
        channel.down[key] = false;
        if (!channel.pedal) channel.velocity[key] = 0;
    }
    // As the band's leader has it (models/hafm/held.py), so that another session is led as the one before was.
    static void control(Channel& channel, uint8_t controller, uint8_t value) {
        const bool silences = controller == kSoundOff || controller == kNotesOff;
        if (controller != kPedal && controller != kResetControllers && !silences) return;
        channel.pedal = controller == kPedal && value >= 64;
        if (silences) channel.down.reset();
        for (uint8_t key = 0; key < kKeys && !channel.pedal; ++key)
            if (!channel.down[key]) channel.velocity[key] = 0;
    }

    Channel channels_[kChannelsOfMidi];
};

}  // namespace backline
