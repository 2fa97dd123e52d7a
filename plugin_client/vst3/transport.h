// The host's transport, as VST3 tells it.
#pragma once

#include <audio_processor.h>

#include <optional>

#include "plugin.h"

namespace backline::vst3 {

// Nothing where the host tells no tempo: without one there is no beat.
std::optional<Transport> transport_of(const v3_process_context* context, double sample_rate);

}  // namespace backline::vst3
