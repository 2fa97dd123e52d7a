// The host's transport, as VST3 tells it; values that make no sense count as not told.
#include "transport.h"

#include <cmath>

namespace backline::vst3 {

std::optional<Transport> transport_of(const v3_process_context* context, double sample_rate, bool ardour,
                                      double latency) {
    const auto told = [&](uint32_t flag) { return (context->state & flag) != 0; };
    if (context == nullptr || !told(V3_PROCESS_CTX_TEMPO_VALID)) return std::nullopt;
    if (!std::isfinite(context->bpm) || context->bpm <= 0.0) return std::nullopt;

    Transport transport;
    transport.playing = told(V3_PROCESS_CTX_PLAYING);
    transport.tempo = context->bpm;
    if (told(V3_PROCESS_CTX_TIME_SIG_VALID) && context->time_sig_numerator > 0 && context->time_sig_denom > 0) {
        transport.numerator = static_cast<uint32_t>(context->time_sig_numerator);
        transport.denominator = static_cast<uint32_t>(context->time_sig_denom);
    }
    const bool musical = told(V3_PROCESS_CTX_PROJECT_TIME_VALID) && std::isfinite(context->project_time_quarters);
    transport.song_position = musical ? context->project_time_quarters
                                      : double(context->project_time_in_samples) / sample_rate * context->bpm / 60.0;
    if (told(V3_PROCESS_CTX_CYCLE_VALID) && std::isfinite(context->cycle_start_quarters) &&
        std::isfinite(context->cycle_end_quarters) && context->cycle_end_quarters > context->cycle_start_quarters) {
        transport.looping = told(V3_PROCESS_CTX_CYCLE_ACTIVE);
        transport.loop_start = context->cycle_start_quarters;
        transport.loop_end = context->cycle_end_quarters;
    }
    if (ardour && transport.playing) {
        const bool before_end = transport.looping && transport.song_position < transport.loop_end;
        transport.song_position += latency * transport.tempo / 60.0;
        if (before_end && transport.song_position >= transport.loop_end)
            transport.song_position = transport.loop_start + std::fmod(transport.song_position - transport.loop_start,
                                                                       transport.loop_end - transport.loop_start);
    }
    if (!ardour && told(V3_PROCESS_CTX_BAR_POSITION_VALID) && std::isfinite(context->bar_position_quarters)) {
        transport.bar_start = context->bar_position_quarters;
    } else {
        const double bar = 4.0 * transport.numerator / transport.denominator;
        transport.bar_start = std::floor(transport.song_position / bar) * bar;
    }
    return transport;
}

}  // namespace backline::vst3
