// What happens within a block, out of VST3's queues of parameter points and its list of notes: one list by frame.
#pragma once

#include <audio_processor.h>

#include <array>

#include "midi_backlog.h"
#include "plugin.h"

namespace backline::vst3 {

// [audio] No allocation: a block has room for a fixed number of events. Of what comes on top, a parameter takes its
// value at once, a note's end comes with the next block, and other notes are lost.
class EventList {
  public:
    // A new block: what the last one had no room for comes first.
    void clear();
    void add_parameters(v3_param_changes** changes, uint32_t frames, Plugin& plugin, uint32_t packs);
    void add_notes(v3_event_list** notes, uint32_t frames);

    const Event* data() const { return events_.data(); }
    size_t size() const { return count_; }
    uint32_t lost() const { return lost_; }  // notes of this block

  private:
    bool add(const Event& event);

    std::array<Event, 512> events_;
    size_t count_ = 0;
    uint32_t lost_ = 0;
    MidiBacklog backlog_;
};

}  // namespace backline::vst3
