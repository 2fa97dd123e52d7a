// The buses of the plugin: which there are, how many channels each has, and which the host uses.
#pragma once

#include <audio_processor.h>
#include <component.h>

#include <atomic>
#include <vector>

#include "block.h"

namespace backline::vst3 {

constexpr int32_t kInputs = 2;  // main, sidechain

class Buses {
  public:
    Buses();

    static int32_t count(int32_t media, int32_t direction);  // 0 where there is no such kind
    bool describe(int32_t media, int32_t direction, int32_t index, v3_bus_info& info) const;
    bool activate(int32_t media, int32_t direction, int32_t index, bool active);

    // Takes all or nothing. Inputs and the main output may be mono; what is not the main bus may be empty; all else is
    // stereo.
    bool arrange(const v3_speaker_arrangement* inputs, int32_t input_count, const v3_speaker_arrangement* outputs,
                 int32_t output_count);
    bool arrangement(int32_t direction, int32_t index, v3_speaker_arrangement& result) const;

    void prepare(uint32_t max_frames);  // [main] before blocks of up to this size

    // [audio] Points `block` at the host's buffers. Buses that the host has deactivated or leaves out stay null, and so
    // do inputs that it calls silent; both channels of a mono input are the same.
    void connect(const v3_process_data& data, Block& block);
    // [audio] After the block: a mono main output is the mean of both channels.
    void fold(const Block& block) const;

  private:
    struct Bus {
        v3_speaker_arrangement arrangement = V3_SPEAKER_L | V3_SPEAKER_R;
        std::atomic<bool> active{false};
    };
    Bus inputs_[kInputs];
    Bus outputs_[kOutputs];
    std::vector<float> right_;  // of a mono main output, which the host has no buffer for
};

}  // namespace backline::vst3
