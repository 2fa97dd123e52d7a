// What the audio thread and the worker of an active instance share: rings in both directions, and a few counters.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <mutex>

#include "block.h"
#include "demand.h"
#include "output_ring.h"
#include "spsc.h"

namespace backline {

constexpr double kInputSeconds = 2.5;   // that the ring holds
constexpr double kAheadSeconds = 6.5;   // by which output can come before its input: the lowest visibility and a chunk
constexpr size_t kChanges = 2048;       // that may wait beside the input

constexpr uint32_t kInputs = 2;         // of a pack that a session can have

// One sample of what the server hears: the input that is heard, and the other one for packs that take two.
struct Frame {
    float inputs[kInputs][kChannels];
};

// What the mode and the latency budget come to.
struct Timing {
    uint32_t latency = 0;  // samples
    bool live = false;     // the mode

    bool operator==(const Timing& other) const { return latency == other.latency && live == other.live; }
    bool operator!=(const Timing& other) const { return !(*this == other); }
};

// What the server must be told before the sample that lies at `index` of the input ring.
struct Change {
    enum class Kind : uint8_t {
        restart,    // a new session begins here: `offline`, `take`, `same_seed` and `timing` hold from now on
        jump,       // input before it was lost, because the ring was full
        parameter,  // `parameter` has become `value`
        transport,
        midi
    };
    Kind kind = Kind::jump;
    uint64_t index = 0;
    int64_t position = 0;  // of that sample
    bool offline = false;
    uint32_t take = 0;
    bool same_seed = false;  // where it is left to chance, the take before has drawn it
    Timing timing;
    uint32_t parameter = 0;
    uint32_t binding = 0;  // of a slot: by which the value means something
    double value = 0.0;
    Transport transport;
    uint8_t midi[3] = {};
    uint8_t midi_size = 0;
};

// What does not change while the instance is active.
struct Activation {
    double sample_rate = 0.0;
    uint32_t max_frames = 0;
    Timing timing;              // at first
    uint32_t most_latency = 0;  // samples: there is room for no more
};

struct Exchange {
    explicit Exchange(const Activation& activation);
    ~Exchange();
    Exchange(const Exchange&) = delete;
    Exchange& operator=(const Exchange&) = delete;

    const Activation activation;
    uint32_t capacity(uint32_t latency) const;  // samples of output that may wait

    // Audio thread to worker. A change is pushed before the samples that follow it.
    Spsc<Frame> input;
    Spsc<Change> changes;
    std::atomic<uint64_t> restart_index{0};  // of the newest restart: what the input holds before it is void

    // Worker to audio thread.
    OutputRing output;
    std::atomic<uint32_t> take{0};       // that `output` belongs to: until it is the audio thread's, that does not read
    std::atomic<int64_t> session_start;  // position from which wet is due; the largest number: no session
    std::atomic<int64_t> wet_from{0};    // position of the oldest input that a session has or can still get
    std::atomic<uint32_t> hopeless{0};   // the take that nobody waits for any more, offline or hurried
    std::atomic<uint32_t> inputs{1};     // of the pack
    std::atomic<bool> reached{false};    // a server has answered, since activate
    std::atomic<bool> missed{false};     // the newest attempt to reach one has failed
    std::atomic<uint64_t> progress{0};   // counts what the worker has brought forward

    std::atomic<bool> offline{false};  // as the host wants it; the audio thread follows
    std::atomic<float> input_peak{0.0f}, output_peak{0.0f};
    std::atomic<uint64_t> underrun_samples{0};
    std::atomic<uint64_t> lost_midi{0};  // messages for which there was no room

    // How the host pulls, as the audio thread sees it.
    std::atomic<float> lead{0.0f};              // seconds ahead of the clock, or 0
    std::atomic<bool> hurried{false};           // faster than time, without having said that it bounces
    std::atomic<uint64_t> hurried_dry{0};       // samples of this hurry for which wet was due and was not there
    std::atomic<Rolling> rolling{Rolling::unknown};
    std::atomic<uint64_t> sounded{0};           // pieces of input that were not silence

    // [audio, where it may wait; main] Wakes the worker, which otherwise looks at its rings every few milliseconds.
    void wake_worker() noexcept;
    int wake_fd() const { return wake_fd_; }
    void clear_wake() noexcept;            // [worker]
    void wait_for_wake(int milliseconds);  // [worker] at most so long

    // [worker] Something has come that an audio thread may wait for.
    void announce_progress();
    // [audio, where it may wait] Waits until that has happened again after `seen` of it, or `milliseconds` have passed.
    void wait_for_progress(uint64_t seen, int milliseconds);

  private:
    int wake_fd_;
    std::mutex mutex_;
    std::condition_variable progressed_;
};

constexpr int64_t kNoSession = std::numeric_limits<int64_t>::max();

}  // namespace backline
