// Text between UTF-8, which the plugin speaks, and UTF-16, which VST3 does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace backline::vst3 {

// Writes at most `capacity` units including the final zero; cuts between characters.
void to_utf16(const std::string& text, int16_t* result, size_t capacity);
std::string from_utf16(const int16_t* text, size_t capacity);

}  // namespace backline::vst3
