// What a project file keeps of an instance, as bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "pack_texts.h"
#include "packs.h"
#include "parameters.h"
#include "prompts.h"
#include "slots.h"

namespace backline {

struct State {
    std::string endpoint;            // as set_endpoint takes it
    PackState packs;                 // that the parameter Pack counts
    double values[kParameterCount] = {};  // of those that are kept by number, in the parameters' units
    NamedValues named_values;        // of packs' parameters
    NamedTexts texts;
    Bank bank;
};

// Equal states: equal bytes, on any machine.
std::vector<uint8_t> encode_state(const State& state);

// False where the bytes are not those of a state; then `state` is unchanged. Parameters that the bytes lack, as an
// older version's do, keep their initial values; older versions pass over what they do not know, and over all that goes
// by name where that is more than they can read.
bool decode_state(const uint8_t* data, size_t size, State& state);

}  // namespace backline
