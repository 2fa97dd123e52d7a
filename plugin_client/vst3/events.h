// What happens within a block, out of VST3's queues of parameter points and its list of notes: one list by frame.
#pragma once

#include <audio_processor.h>

#include <array>

#include "plugin.h"

namespace backline::vst3 {

// [audio] No allocation: a block has room for a fixed number of events. Of what comes on top, notes are lost and a
// parameter takes its value at once.
class EventList {
  public:
    void clear() { count_ = 0; }
    void add_parameters(v3_param_changes** changes, uint32_t frames, Plugin& plugin);
    void add_notes(v3_event_list** notes, uint32_t frames);

    const Event* data() const { return events_.data(); }
    size_t size() const { return count_; }

  private:
    bool add(const Event& event);

    std::array<Event, 512> events_;
    size_t count_ = 0;
};

}  // namespace backline::vst3
