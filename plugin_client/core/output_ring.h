// The wet signal by stream position: the worker lays it down as it comes, the audio thread takes it when it is due.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "block.h"

namespace backline {

constexpr uint32_t kPiece = 256;  // samples that the audio thread handles at a time, at most

// What was there of a piece. Where `ports` is 0 the wet signal is missing and the samples mean nothing.
struct Wet {
    uint8_t ports[kPiece];                       // of the pack, up to kStems
    float samples[kOutputs][kChannels][kPiece];  // [0] the sum of all ports, then a stem for each
};

// One port's audio of a block, stereo, as the worker has unpacked it.
struct PortAudio {
    std::vector<float> channels[kChannels];
};

// One writer and one reader. What may be read is [released, end); the writer only ever writes from `end` on, and never
// a whole ring beyond what the reader has released: so nothing is written while it may be read.
class OutputRing {
  public:
    explicit OutputRing(uint32_t capacity);

    // [worker] Lays down the ports' next `count` samples from `position` on. What was skipped since the last block is
    // missing; what was due already is dropped. Returns how many samples came too late.
    uint32_t write(int64_t position, uint32_t count, const std::vector<PortAudio>& ports);
    // [worker] Nothing comes any more for what lies before `position`.
    void skip(int64_t position);
    // [worker] Forgets what lies at `position` and later, while the audio thread is known not to read; from then on the
    // ring holds `capacity` samples, at most as many as it was made for.
    void rewind(int64_t position, uint32_t capacity);

    int64_t end() const { return end_.load(std::memory_order_acquire); }  // [any] nothing has come from here on

    // [audio] Samples [position, position + count). What has been read is missing when it is read again.
    void read(int64_t position, uint32_t count, Wet& wet);

  private:
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };
    template <class T>
    using Lane = std::unique_ptr<T[], Free>;  // zeros that take no memory until something is written

    void lay(float* lane, int64_t position, uint32_t count, const float* from);

    uint32_t capacity_;
    Lane<uint8_t> ports_;
    Lane<float> samples_[kOutputs][kChannels];
    alignas(64) std::atomic<int64_t> end_{0};
    alignas(64) std::atomic<int64_t> released_{0};
};

}  // namespace backline
