// The plugin's parameters: what a host may automate, with ranges, units and texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace backline {

constexpr uint32_t kSlots = 8;    // parameters that the pack names
constexpr uint32_t kPrompts = 8;  // in the bank

// Indices into parameters(); never reorder: hosts store automation by id.
enum Parameter : uint32_t {
    kPack,           // index into the list of packs that this instance knows; its text is the name
    kMode,           // 0 follow: hears, then plays, the host compensates; 1 live: plays ahead, no latency
    kDryWet,         // 0 dry to 1 wet
    kGain,           // dB, of the wet signal; the lowest value is silence
    kGuidance,       // sent to packs that take it
    kTemperature,    // sent to packs that take it
    kKey,            // 0 listen, 1 to 12 C to B major, 13 to 24 C to B minor; sent to packs that take it
    kSeed,           // 0: another one every time
    kVisibility,     // seconds; the lowest value leaves it to the pack, or to the mode
    kChunk,          // seconds; 0 leaves it to the pack
    kLatencyBudget,  // seconds, of follow mode
    kInput,          // 0 the main input is heard, 1 the sidechain
    kBypass,         // 1: the input, delayed as reported
    kStatus,         // read only: a Status
    kFirstSlot,      // of those that the pack names, 0 to 1 each: see slots.h
    kPrompt = kFirstSlot + kSlots,  // slot of the bank whose words the pack's text is: see prompts.h
    kJump,           // 0: where the song jumps the session plays on, 1: a new take begins there, and at a loop's end
    kTiming,         // 0: Visibility and Chunk as set, 1: as the server advises for the network and the budget
    kParameterCount
};

inline bool is_slot(uint32_t index) { return index >= kFirstSlot && index < kFirstSlot + kSlots; }
inline bool is_setting(uint32_t index) { return index < kParameterCount && index != kStatus; }
inline bool is_kept(uint32_t index) { return is_setting(index) && !is_slot(index); }  // by its number

struct ParameterInfo {
    const char* name;
    const char* unit;
    double minimum;
    double maximum;
    double initial;
    bool stepped;    // whole numbers only
    bool named;      // each of them has a name: hosts show a list
    bool read_only;  // all others can be automated: what cannot, some hosts do not even show
    bool reopens;    // a change opens a new session on the server
    bool restarts;   // a change alters the latency: takes effect once it has settled, and the host takes that
};

constexpr double kMaximumPacks = 64;        // that an instance can choose from
constexpr double kSilentGain = -60.0;       // dB, and below: silence
constexpr double kLowestVisibility = -2.0;  // seconds; below: left to the pack, or to the mode
constexpr double kShortestChunk = 0.001;    // seconds; below: left to the pack

const ParameterInfo* parameters();  // [kParameterCount]

// What packs call a parameter that they take, or null where it is none of theirs, or theirs to name.
const char* wire_name(uint32_t index);

// Within the parameter's range and, where it is stepped, whole; not a number becomes the initial value.
double clamp_parameter(uint32_t index, double value);

// Values as users read and write them. What a pack is called, only an instance knows: here it is a number. False, and
// nothing is changed, for what says nothing or lies out of range.
std::string parameter_to_text(uint32_t index, double value);
bool parameter_from_text(uint32_t index, const std::string& text, double& value);

}  // namespace backline
