// The table of parameters, and their values as text and back.
#include "parameters.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "plugin.h"

namespace backline {
namespace {

constexpr const char* kKeys[] = {"listen",   "C major", "C# major", "D major", "Eb major", "E major",  "F major",
                                 "F# major", "G major", "Ab major", "A major", "Bb major", "B major",  "C minor",
                                 "C# minor", "D minor", "Eb minor", "E minor", "F minor",  "F# minor", "G minor",
                                 "Ab minor", "A minor", "Bb minor", "B minor"};
constexpr const char* kModes[] = {"follow", "live"};
constexpr const char* kInputs[] = {"main", "sidechain"};
constexpr const char* kSwitch[] = {"off", "on"};
constexpr const char* kStatuses[] = {"idle", "connecting",       "opening", "playing",
                                     "late", "budget too small", "refused", "failed"};

// The names of a parameter that chooses among some, or null.
const char* const* names_of(uint32_t index) {
    switch (index) {
        case kMode:
            return kModes;
        case kKey:
            return kKeys;
        case kInput:
            return kInputs;
        case kBypass:
            return kSwitch;
        case kStatus:
            return kStatuses;
        default:
            return nullptr;
    }
}

// How a parameter that is a number is written: what it is multiplied with, decimals, unit.
struct Format {
    double scale;
    int decimals;
    const char* unit;
};

Format format_of(uint32_t index) {
    switch (index) {
        case kDryWet:
            return {100.0, 1, "%"};
        case kGain:
            return {1.0, 1, "dB"};
        case kGuidance:
            return {1.0, 2, "x"};
        case kTemperature:
            return {1.0, 2, ""};
        case kVisibility:
        case kChunk:
        case kLatencyBudget:
            return {1.0, 3, "s"};
        default:
            return {1.0, 0, ""};
    }
}

// The value's name where it is no number ("auto"), or null.
const char* special_name(uint32_t index, double value) {
    switch (index) {
        case kGain:
            return value <= kSilentGain ? "-inf dB" : nullptr;
        case kSeed:
            return value < 0.5 ? "random" : nullptr;
        case kVisibility:
            return value < kLowestVisibility ? "auto" : nullptr;
        case kChunk:
            return value < kShortestChunk ? "auto" : nullptr;
        default:
            return nullptr;
    }
}

std::string lower(std::string text) {
    const auto space = [](unsigned char c) { return std::isspace(c) != 0; };
    text.erase(text.begin(), std::find_if_not(text.begin(), text.end(), space));
    text.erase(std::find_if_not(text.rbegin(), text.rend(), space).base(), text.end());
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

}  // namespace

const ParameterInfo* parameters() {
    // name, unit, minimum, maximum, initial, stepped, automatable, read only, reopens, restarts
    static const ParameterInfo table[kParameterCount] = {
        {"Pack", "", 0, kMaximumPacks - 1, 0, true, true, false, true, false},
        {"Mode", "", 0, 1, 0, true, false, false, true, true},
        {"Dry/Wet", "%", 0, 1, 0.5, false, true, false, false, false},
        {"Gain", "dB", kSilentGain, 12, 0, false, true, false, false, false},
        {"Guidance", "x", 0, 10, 1, false, true, false, false, false},
        {"Temperature", "", 0, 2, 0.3, false, true, false, false, false},
        {"Key", "", 0, 24, 0, true, true, false, false, false},
        {"Seed", "", 0, 999'999, 0, true, true, false, true, false},
        {"Visibility", "s", kLowestVisibility - 0.1, 4, kLowestVisibility - 0.1, false, true, false, true, false},
        {"Chunk", "s", 0, 4, 0, false, true, false, true, false},
        {"Latency budget", "s", 0, 10, 3, false, false, false, false, true},
        {"Input", "", 0, 1, 0, true, true, false, false, false},
        {"Bypass", "", 0, 1, 0, true, true, false, false, false},
        {"Status", "", 0, 7, 0, true, false, true, false, false},
    };
    return table;
}

double clamp_parameter(uint32_t index, double value) {
    const ParameterInfo& info = parameters()[index];
    if (!(value >= info.minimum)) return std::isnan(value) ? info.initial : info.minimum;
    value = std::min(value, info.maximum);
    return info.stepped ? std::round(value) : value;
}

std::string parameter_to_text(uint32_t index, double value) {
    if (index >= kParameterCount) return "";
    value = clamp_parameter(index, value);
    if (const char* name = special_name(index, value)) return name;
    if (const char* const* names = names_of(index)) return names[static_cast<size_t>(value)];
    const Format format = format_of(index);
    char digits[64];
    // Not printf: its decimal point is the locale's, which the host may change.
    const double scaled = value * format.scale + 0.0;
    const auto end = std::to_chars(digits, digits + sizeof digits, scaled, std::chars_format::fixed, format.decimals);
    std::string text(digits, end.ptr);
    if (text[0] == '-' && text.find_first_not_of("-0.") == std::string::npos) text.erase(0, 1);  // no "-0.0"
    return *format.unit ? text + " " + format.unit : text;
}

bool parameter_from_text(uint32_t index, const std::string& given, double& value) {
    if (index >= kParameterCount) return false;
    const ParameterInfo& info = parameters()[index];
    const std::string text = lower(given);
    if (const char* const* names = names_of(index)) {
        for (uint32_t choice = 0; choice <= info.maximum; ++choice) {
            if (lower(names[choice]) == text) return value = choice, true;
        }
    }
    if (const char* name = special_name(index, info.minimum); name && lower(name) == text)
        return value = info.minimum, true;
    double number = 0.0;
    const char* begin = text.c_str() + (text[0] == '+' ? 1 : 0);
    const auto [end, error] = std::from_chars(begin, text.c_str() + text.size(), number);
    if (error != std::errc() || !std::isfinite(number)) return false;
    const Format format = format_of(index);
    const std::string unit = lower(end);
    if (!unit.empty() && unit != lower(format.unit)) return false;
    return value = clamp_parameter(index, number / format.scale), true;
}

}  // namespace backline
