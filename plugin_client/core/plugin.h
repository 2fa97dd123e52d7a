// One plugin instance without any plugin format: what the CLAP and the VST3 shells wrap.
//
// Threads: every method says who may call it. [main] is the host's main thread, [audio] its audio thread, and
// [any] may be called from anywhere at any time. A worker thread of the instance's own talks to the server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block.h"
#include "pack_texts.h"
#include "parameters.h"

namespace backline {

// How a parameter is shown.
struct Face {
    std::string name;
    std::string unit;
    double initial = 0.0;
    uint32_t steps = 0;   // of one that the pack names; 0: continuous
    bool named = false;   // each value has a name
    bool hidden = false;  // it stands for nothing
};

// A text of the chosen pack.
struct WrittenText {
    std::string name;
    std::string description;
    std::vector<std::string> suggestions;
    std::string text;                      // as it is written, or the pack's default
    std::optional<TextInForce> in_force;   // that a session plays by
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
    // [any but audio] Of Prompt any words say something: those that no slot of the bank holds go into its last.
    bool parameter_value(uint32_t index, const std::string& text, double& value);

    // [any] A parameter's largest value as hosts are shown it: that of Pack is the last pack's number, and grows with
    // show_packs() and load_state() only.
    double maximum(uint32_t index) const noexcept;
    // [any but audio] A parameter's face. For those that the pack names it changes, and their values with it, and so do
    // Prompt's texts: then renames() grows [any].
    Face face(uint32_t index) const;
    uint32_t renames() const noexcept;
    // [main] While inactive: has the chosen pack name its parameters, as far as a server has ever described it. While
    // active they follow by themselves, as soon as no session plays by other names.
    void follow_pack();

    // [any but audio] The chosen pack's texts, and a text for packs that have one of this name: false where it is none
    // (see is_text; is_prompt for the one that Prompt drives, which then stands for it). A session that plays takes it
    // up as soon as it can.
    std::vector<WrittenText> texts() const;
    bool write_text(const std::string& name, const std::string& text);

    // [any] The packs that stored automation counts by where it is in shares of the list: see packs.h.
    uint32_t packs_counted() const noexcept;
    // [any] A server has packs that the host is not shown yet, and nothing plays that the news would disturb.
    bool more_packs() const noexcept;
    // [main] Shows them; false where nothing has changed.
    bool show_packs();

    // [main] Everything that a project file must keep: endpoint, packs known, parameters, texts. Equal settings: equal
    // bytes.
    std::vector<uint8_t> save_state() const;
    // [main] False, and nothing changed, where the bytes are not such a state.
    bool load_state(const uint8_t* data, size_t size);

    // [main] Where the server is: "unix:/path" or "host:port"; empty (the default): the user's socket, then loopback,
    // then what the user has written down (net/servers.h), where keys are as well.
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
