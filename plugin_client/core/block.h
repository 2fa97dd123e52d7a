// The vocabulary of the core: what a call of the host brings and takes, and what its user sees of it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace backline {

constexpr uint32_t kStems = 5;             // stereo outputs beside the main one; a pack may have fewer ports
constexpr uint32_t kOutputs = 1 + kStems;  // [0] is the main output: dry and wet mixed
constexpr uint32_t kChannels = 2;          // of every port

// The host's transport at the first sample of a block.
struct Transport {
    bool playing = false;
    double tempo = 120.0;  // quarter notes per minute
    uint32_t numerator = 4;
    uint32_t denominator = 4;
    double song_position = 0.0;  // quarter notes from the start of the song
    double bar_start = 0.0;      // song position of the current bar's first beat
    bool looping = false;
    double loop_start = 0.0;  // quarter notes
    double loop_end = 0.0;
};

// Something that happens at a sample of a block.
struct Event {
    enum class Kind : uint8_t { parameter, midi };
    Kind kind = Kind::parameter;
    uint32_t frame = 0;      // within the block
    uint32_t parameter = 0;  // index into parameters()
    double value = 0.0;      // of the parameter, in its own unit
    uint8_t midi[3] = {};    // a MIDI 1.0 channel message
    uint8_t midi_size = 0;
};

// Audio of one call. Pointers may be null: an absent input is silence, an absent output is not written.
// Inputs and outputs may share memory (in place).
struct Block {
    const float* main_input[kChannels] = {};
    const float* sidechain[kChannels] = {};
    float* outputs[kOutputs][kChannels] = {};
    uint32_t frames = 0;
    const Event* events = nullptr;  // by frame, ascending
    size_t event_count = 0;
    const Transport* transport = nullptr;  // null: the host tells none
    bool offline = false;                  // the host bounces, by this call; set_offline() says so for all calls
    uint32_t lost_midi = 0;                // messages that the shell had no room for
};

// What the host's user sees of the connection.
enum class Status : uint32_t {
    idle,              // not active; or nobody plays, and the session has been left to others
    connecting,        // no server yet: dry
    opening,           // the server loads the pack: dry
    playing,           // output comes in time
    late,              // output came too late lately: dry where it was missing
    budget_too_small,  // the same, and the session needs more latency than the budget: raise it, or choose a smaller
                       // visibility or chunk
    refused,           // the server said no; message() says why
    failed             // the host bounces, and there is no server, or it went away or answered too slowly: what was
                       // bounced holds dry
};

struct Meters {
    float input_peak = 0.0f;              // since the last call of meters(), linear
    float output_peak = 0.0f;             // of the main output
    uint64_t underrun_samples = 0;        // since activate: wet was due and was not there
    uint64_t late_samples = 0;            // came after they should have been played
    uint64_t sessions = 0;                // opened since activate
    uint64_t lost_midi = 0;               // messages for which there was no room
    double needed_latency_seconds = 0.0;  // the server's ledger; 0 while unknown
    double server_compute_seconds = 0.0;  // of a chunk, by the ledger
};

}  // namespace backline
