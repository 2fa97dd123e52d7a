// The buses of the plugin: which there are, how many channels each has, and which the host uses.
#include "buses.h"

#include <cstring>
#include <string>

#include "text.h"

namespace backline::vst3 {

namespace {

constexpr v3_speaker_arrangement kEmpty = 0;
constexpr v3_speaker_arrangement kMono = V3_SPEAKER_M;
constexpr v3_speaker_arrangement kStereo = V3_SPEAKER_L | V3_SPEAKER_R;

int32_t channels(v3_speaker_arrangement arrangement) {
    return arrangement == kEmpty ? 0 : arrangement == kMono ? 1 : 2;
}

bool fits(v3_speaker_arrangement arrangement, int32_t direction, int32_t index) {
    return arrangement == kStereo || (arrangement == kMono && (direction == V3_INPUT || index == 0)) ||
           (arrangement == kEmpty && index > 0);
}

bool valid(int32_t media, int32_t direction, int32_t index) {
    return index >= 0 && index < Buses::count(media, direction);
}

std::string name_of(int32_t direction, int32_t index) {
    if (index == 0) return direction == V3_INPUT ? "Input" : "Output";
    return direction == V3_INPUT ? "Sidechain" : "Stem " + std::to_string(index);
}

}  // namespace

Buses::Buses() {
    inputs_[0].active = true;
    outputs_[0].active = true;
}

int32_t Buses::count(int32_t media, int32_t direction) {
    if (media == V3_AUDIO && direction == V3_INPUT) return kInputs;
    if (media == V3_AUDIO && direction == V3_OUTPUT) return kOutputs;
    return media == V3_EVENT && direction == V3_INPUT ? 1 : 0;
}

bool Buses::describe(int32_t media, int32_t direction, int32_t index, v3_bus_info& info) const {
    if (!valid(media, direction, index)) return false;
    info = {};
    info.media_type = media;
    info.direction = direction;
    info.bus_type = index == 0 ? V3_MAIN : V3_AUX;
    info.flags = index == 0 ? V3_DEFAULT_ACTIVE : 0;
    if (media == V3_EVENT) {
        info.channel_count = 16;
        to_utf16("Notes", info.bus_name, 128);
    } else {
        const Bus& bus = direction == V3_INPUT ? inputs_[index] : outputs_[index];
        info.channel_count = channels(bus.arrangement);
        to_utf16(name_of(direction, index), info.bus_name, 128);
    }
    return true;
}

bool Buses::activate(int32_t media, int32_t direction, int32_t index, bool active) {
    if (!valid(media, direction, index)) return false;
    if (media == V3_AUDIO) (direction == V3_INPUT ? inputs_[index] : outputs_[index]).active = active;
    return true;
}

bool Buses::arrange(const v3_speaker_arrangement* inputs, int32_t input_count, const v3_speaker_arrangement* outputs,
                    int32_t output_count) {
    if (input_count < 0 || input_count > kInputs || output_count < 0 || output_count > int32_t{kOutputs}) return false;
    if ((input_count > 0 && inputs == nullptr) || (output_count > 0 && outputs == nullptr)) return false;
    for (int32_t index = 0; index < input_count; ++index)
        if (!fits(inputs[index], V3_INPUT, index)) return false;
    for (int32_t index = 0; index < output_count; ++index)
        if (!fits(outputs[index], V3_OUTPUT, index)) return false;
    for (int32_t index = 0; index < input_count; ++index) inputs_[index].arrangement = inputs[index];
    for (int32_t index = 0; index < output_count; ++index) outputs_[index].arrangement = outputs[index];
    return true;
}

bool Buses::arrangement(int32_t direction, int32_t index, v3_speaker_arrangement& result) const {
    if (!valid(V3_AUDIO, direction, index)) return false;
    result = direction == V3_INPUT ? inputs_[index].arrangement : outputs_[index].arrangement;
    return true;
}

void Buses::prepare(uint32_t max_frames) {
    right_.assign(max_frames, 0.0f);
}

void Buses::connect(const v3_process_data& data, Block& block) {
    const float** const targets[kInputs] = {block.main_input, block.sidechain};
    for (int32_t index = 0; data.inputs != nullptr && index < data.num_input_buses && index < kInputs; ++index) {
        const v3_audio_bus_buffers& bus = data.inputs[index];
        if (!inputs_[index].active || bus.channel_buffers_32 == nullptr || bus.num_channels < 1) continue;
        for (uint32_t channel = 0; channel < kChannels; ++channel) {
            const uint32_t source = bus.num_channels > 1 ? channel : 0;
            const bool silent = (bus.channel_silence_bitset >> source & 1) != 0;
            targets[index][channel] = silent ? nullptr : bus.channel_buffers_32[source];
        }
    }
    for (int32_t index = 0; data.outputs != nullptr && index < data.num_output_buses; ++index) {
        v3_audio_bus_buffers& bus = data.outputs[index];
        bus.channel_silence_bitset = 0;
        if (index >= int32_t{kOutputs} || !outputs_[index].active || bus.channel_buffers_32 == nullptr) continue;
        for (int32_t channel = 0; channel < bus.num_channels && channel < int32_t{kChannels}; ++channel)
            block.outputs[index][channel] = bus.channel_buffers_32[channel];
        if (index == 0 && bus.num_channels == 1 && block.frames <= right_.size()) block.outputs[0][1] = right_.data();
    }
}

void Buses::fold(const Block& block) const {
    float* const left = block.outputs[0][0];
    if (left == nullptr || block.outputs[0][1] != right_.data()) return;
    for (uint32_t i = 0; i < block.frames; ++i) left[i] = 0.5f * (left[i] + right_[i]);
}

}  // namespace backline::vst3
