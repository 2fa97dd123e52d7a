// Values as users read and write them: units, names, and what people type instead.
#include <algorithm>
#include <cmath>
#include <string_view>

#include "block.h"
#include "numbers.h"
#include "parameters.h"

namespace backline {
namespace {

constexpr const char* kKeys[] = {"listen",   "C major", "C# major", "D major", "Eb major", "E major",  "F major",
                                 "F# major", "G major", "Ab major", "A major", "Bb major", "B major",  "C minor",
                                 "C# minor", "D minor", "Eb minor", "E minor", "F minor",  "F# minor", "G minor",
                                 "Ab minor", "A minor", "Bb minor", "B minor"};
constexpr const char* kModes[] = {"follow", "live"};
constexpr const char* kInputs[] = {"main", "sidechain"};
constexpr const char* kSwitch[] = {"off", "on"};
constexpr const char* kJumps[] = {"play on", "new take"};
constexpr const char* kTimings[] = {"as set", "auto"};
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
        case kJump:
            return kJumps;
        case kTiming:
            return kTimings;
        default:
            return nullptr;
    }
}

// How a parameter that is a number is written.
NumberFormat format_of(uint32_t index) {
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

// ---- what people type --------------------------------------------------------------------------------------------

bool takes(std::string_view& text, std::string_view beginning) {
    if (text.substr(0, beginning.size()) != beginning) return false;
    text.remove_prefix(beginning.size());
    return true;
}

// "Am", "F# minor", "Db", "B flat major": a letter, sharps or flats, and the mode, which is major unless it is told.
bool key_of(const std::string& typed, double& key) {
    constexpr int kNaturals[] = {9, 11, 0, 2, 4, 5, 7};  // A to G, in semitones above C
    std::string letters = lower_case(typed);
    letters.erase(std::remove_if(letters.begin(), letters.end(), [](char c) { return c == ' ' || c == '-'; }),
                  letters.end());
    std::string_view rest = letters;
    if (rest.empty() || rest[0] < 'a' || rest[0] > 'g') return false;
    int pitch = kNaturals[rest[0] - 'a'] + 12;
    rest.remove_prefix(1);
    for (bool altered = true; altered;) {
        const bool sharp = takes(rest, "#") || takes(rest, "sharp");
        const bool flat = !sharp && (takes(rest, "b") || takes(rest, "flat"));
        pitch += sharp - flat;
        altered = sharp || flat;
    }
    const bool capital = typed.back() == 'M';  // "CM" is no "Cm"
    const bool minor = rest == "minor" || rest == "min" || (rest == "m" && !capital);
    if (!minor && !(rest.empty() || rest == "major" || rest == "maj" || rest == "m")) return false;
    return key = pitch % 12 + (minor ? 13.0 : 1.0), true;
}

// The least that can be written as a number; what is less has a name.
double least_number(uint32_t index) {
    return index == kVisibility ? kLowestVisibility : parameters()[index].minimum;
}

}  // namespace

std::string parameter_to_text(uint32_t index, double value) {
    if (index >= kParameterCount) return "";
    value = clamp_parameter(index, value);
    if (const char* name = special_name(index, value)) return name;
    if (const char* const* names = names_of(index)) return names[static_cast<size_t>(value)];
    return number_to_text(format_of(index), value);
}

bool parameter_from_text(uint32_t index, const std::string& given, double& value) {
    if (index >= kParameterCount) return false;
    const ParameterInfo& info = parameters()[index];
    const std::string typed = plain_signs(given), text = lower_case(typed);
    if (text.empty()) return false;
    if (const char* const* names = names_of(index)) {
        for (uint32_t choice = 0; choice <= info.maximum; ++choice) {
            if (lower_case(names[choice]) == text) return value = choice, true;
        }
    }
    if (index == kKey && key_of(typed, value)) return true;
    const char* special = special_name(index, info.minimum);
    if (special && (text == lower_case(special) || text + " db" == lower_case(special)))
        return value = info.minimum, true;
    if (index == kSeed && text.rfind("random (", 0) == 0 && text.back() == ')') return value = info.minimum, true;
    double number = 0.0;
    if (!number_from_text(format_of(index), text, number)) return false;
    if (number < least_number(index) || number > info.maximum) return false;
    if (info.stepped && number != std::round(number)) return false;
    return value = number, true;
}

}  // namespace backline
