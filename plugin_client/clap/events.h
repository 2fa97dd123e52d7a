// CLAP's events and transport in the core's terms.
#pragma once

#include <clap/events.h>

#include <array>

#include "../core/block.h"
#include "../core/parameters.h"

namespace backline::clap {

constexpr size_t kEventRoom = 512;  // events of one run of a block; a block with more is played in several runs
constexpr size_t kMostOfOne = 16;   // core events that one CLAP event may become: one for each MIDI channel
using EventRoom = std::array<Event, kEventRoom>;

// [audio] Writes what `event` means at `frame`; returns how many events that are: none where it is not for us.
size_t translate(const clap_event_header_t& event, uint32_t frame, Event* out);

// [any] A parameter event in the parameter's own unit; false where `event` is none, or none that may be followed.
bool read_parameter(const clap_event_header_t& event, uint32_t& parameter, double& value);

// [any] False where the host tells no beat: without a tempo, or with one that no music has.
bool read_transport(const clap_event_transport_t& event, Transport& transport);

// [audio] The transport `frames` later, if nothing else happens.
void advance(Transport& transport, uint32_t frames, double sample_rate);

}  // namespace backline::clap
