// The table of parameters.
#include "parameters.h"

#include <algorithm>
#include <cmath>

namespace backline {

const ParameterInfo* parameters() {
    // name, unit, minimum, maximum, initial, stepped, named, read only, reopens, restarts
    static const ParameterInfo table[kParameterCount] = {
        {"Pack", "", 0, kMaximumPacks - 1, 0, true, true, false, true, false},
        {"Mode", "", 0, 1, 0, true, true, false, false, true},
        {"Dry/Wet", "%", 0, 1, 0.5, false, false, false, false, false},
        {"Gain", "dB", kSilentGain, 12, 0, false, false, false, false, false},
        {"Guidance", "x", 0, 10, 1, false, false, false, false, false},
        {"Temperature", "", 0, 2, 0.3, false, false, false, false, false},
        {"Key", "", 0, 24, 0, true, true, false, false, false},
        {"Seed", "", 0, 999'999, 0, true, false, false, true, false},
        {"Visibility", "s", kLowestVisibility - 0.1, 4, kLowestVisibility - 0.1, false, false, false, true, false},
        {"Chunk", "s", 0, 4, 0, false, false, false, true, false},
        {"Latency budget", "s", 0, 10, 3, false, false, false, false, true},
        {"Input", "", 0, 1, 0, true, true, false, false, false},
        {"Bypass", "", 0, 1, 0, true, true, false, false, false},
        {"Status", "", 0, 7, 0, true, true, true, false, false},
        {"Pack parameter 1", "", 0, 1, 0, false, false, false, false, false},
        {"Pack parameter 2", "", 0, 1, 0, false, false, false, false, false},
        {"Pack parameter 3", "", 0, 1, 0, false, false, false, false, false},
        {"Pack parameter 4", "", 0, 1, 0, false, false, false, false, false},
        {"Pack parameter 5", "", 0, 1, 0, false, false, false, false, false},
        {"Pack parameter 6", "", 0, 1, 0, false, false, false, false, false},
        {"Pack parameter 7", "", 0, 1, 0, false, false, false, false, false},
        {"Pack parameter 8", "", 0, 1, 0, false, false, false, false, false},
        // Its steps have names, but no list of them: a list has no field to type into, and Ardour reads it but once.
        {"Prompt", "", 0, kPrompts - 1, 0, true, false, false, false, false},
        {"On jump", "", 0, 1, 0, true, true, false, true, false},
        {"Timing", "", 0, 1, 0, true, true, false, true, false},
    };
    return table;
}

const char* wire_name(uint32_t index) {
    switch (index) {
        case kGuidance:
            return "guidance";
        case kTemperature:
            return "temperature";
        case kKey:
            return "key";
        default:
            return nullptr;
    }
}

double clamp_parameter(uint32_t index, double value) {
    const ParameterInfo& info = parameters()[index];
    if (!(value >= info.minimum)) return std::isnan(value) ? info.initial : info.minimum;
    value = std::min(value, info.maximum);
    return info.stepped ? std::round(value) : value;
}

}  // namespace backline
