// The host's transport, as VST3 tells it.
#pragma once

#include <audio_processor.h>

#include <optional>

#include "block.h"

namespace backline::vst3 {

// At the first sample of the block's input. Nothing where the host tells no tempo: without one there is no beat.
//
// Ardour (`ardour`; its libs/ardour/route.cc and vst3_plugin.cc) tells the time of the output instead, `latency` seconds
// of the song before that of the input, and takes every bar for four quarters.
std::optional<Transport> transport_of(const v3_process_context* context, double sample_rate, bool ardour,
                                      double latency);

}  // namespace backline::vst3
