// One plugin instance without any plugin format: what the CLAP and the VST3 shells wrap.
//
// Threads: every method says who may call it. [main] is the host's main thread, [audio] its audio thread, and
// [any] may be called from anywhere at any time. A worker thread of the instance's own talks to the server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "parameters.h"

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

class Plugin {
  public:
    Plugin();   // [main] allocates little, starts nothing, touches no network: hosts scan hundreds of plugins
    ~Plugin();  // [main] deactivates if need be
    Plugin(const Plugin&) = delete;
    Plugin& operator=(const Plugin&) = delete;

    // [main] Allocates for blocks of up to `max_frames` at `sample_rate` (8 kHz to 192 kHz) and starts the worker;
    // waits for no server. False where the rate or size cannot be served. `retimes`: retime() will be called.
    bool activate(double sample_rate, uint32_t max_frames, bool retimes = false);
    void deactivate();  // [main] returns within 100 ms, server or not
    bool active() const;

    // [main] Offline: process() waits for the server, and nothing is dropped. May be called while active.
    void set_offline(bool offline);

    // [audio] Any number of frames, also more than `max_frames` or none. In real time it never allocates, locks or
    // waits; for a host that pulls far faster than time it waits as offline, for some seconds at most: see player.h.
    void process(const Block& block) noexcept;
    // [audio] Forgets all audio that is under way: the host has jumped. Positions go on.
    void reset() noexcept;

    // [any] Samples by which the main output lags the input. While active only retime() changes it; while inactive it
    // follows the parameters. In live mode 0.
    uint32_t latency_samples(double sample_rate) const;
    // [any] True when parameters that decide the latency have changed since activate(), stand still since a second and
    // nobody bounces: the host should restart us, or take another latency from retime().
    bool wants_restart() const noexcept;
    // [audio, between calls of process()] Where a restart is wanted, does what it would: all that is under way is
    // forgotten, and the latency is the one that is set.
    void retime() noexcept;

    // [main, audio] Sets a parameter outside of process(), in its own unit; clamps. Live it takes effect by the next
    // block.
    void set_parameter(uint32_t index, double value) noexcept;
    double parameter(uint32_t index) const noexcept;  // [any]
    // [any] As the user reads it ("2.4 s", "default", "-6.0 dB"), and back. False where the text says nothing.
    std::string parameter_text(uint32_t index, double value) const;
    bool parameter_value(uint32_t index, const std::string& text, double& value) const;

    // [any] A parameter's largest value as hosts are shown it: that of Pack is the last pack's number, and grows with
    // show_packs() and load_state() only.
    double maximum(uint32_t index) const noexcept;
    // [any] The packs that stored automation counts by where it is in shares of the list: see packs.h.
    uint32_t packs_counted() const noexcept;
    // [any] A server has packs that the host is not shown yet, and nothing plays that the news would disturb.
    bool more_packs() const noexcept;
    // [main] Shows them; false where nothing has changed.
    bool show_packs();

    // [main] Everything that a project file must keep: endpoint, packs known, parameters. Equal settings: equal bytes.
    std::vector<uint8_t> save_state() const;
    // [main] False, and nothing changed, where the bytes are not such a state.
    bool load_state(const uint8_t* data, size_t size);

    // [main] Where the server is: "unix:/path" or "host:port"; empty (the default): the user's socket, then loopback.
    void set_endpoint(const std::string& endpoint);

    Status status() const noexcept;  // [any]
    // [any but audio] The status in words, with what to do: at length, and within what words.h says, what to do first.
    std::string message() const;
    std::string brief_message() const;
    uint64_t changes() const noexcept;     // [any] of the status, its brief words or the seed: grows
    uint32_t drawn_seed() const noexcept;  // [any] the newest that the plugin has drawn, for a Seed of "random"; or 0
    Meters meters() noexcept;        // [any but audio]

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace backline
