// Text between UTF-8, which the plugin speaks, and UTF-16, which VST3 does. What is neither becomes U+FFFD.
#include "text.h"

namespace backline::vst3 {

namespace {

constexpr uint32_t kReplacement = 0xFFFD;

// The character at `position`, which moves past it.
uint32_t next_character(const std::string& text, size_t& position) {
    const auto byte = [&](size_t index) { return static_cast<uint8_t>(text[index]); };
    const uint8_t first = byte(position++);
    if (first < 0x80) return first;
    const int following = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if (first < 0xC2 || first > 0xF4) return kReplacement;
    uint32_t character = first & (0x3F >> following);
    for (int count = 0; count < following; ++count) {
        if (position >= text.size() || (byte(position) & 0xC0) != 0x80) return kReplacement;
        character = character << 6 | (byte(position++) & 0x3F);
    }
    return character;
}

void append_utf8(std::string& text, uint32_t character) {
    const auto put = [&](uint32_t byte) { text.push_back(static_cast<char>(byte)); };
    if (character < 0x80) return put(character);
    const int following = character < 0x800 ? 1 : character < 0x10000 ? 2 : 3;
    put((0xF80 >> following & 0xFF) | character >> 6 * following);
    for (int left = following - 1; left >= 0; --left) put(0x80 | (character >> 6 * left & 0x3F));
}

}  // namespace

void to_utf16(const std::string& text, int16_t* result, size_t capacity) {
    size_t length = 0;
    for (size_t position = 0; position < text.size();) {
        const uint32_t character = next_character(text, position);
        const bool pair = character >= 0x10000;
        if (length + (pair ? 2 : 1) >= capacity) break;
        if (pair) result[length++] = static_cast<int16_t>(0xD800 + ((character - 0x10000) >> 10));
        result[length++] = static_cast<int16_t>(pair ? 0xDC00 + (character & 0x3FF) : character);
    }
    result[length] = 0;
}

std::string from_utf16(const int16_t* text, size_t capacity) {
    std::string result;
    for (size_t index = 0; index < capacity && text[index] != 0; ++index) {
        uint32_t character = static_cast<uint16_t>(text[index]);
        if ((character & 0xF800) == 0xD800) {
            const uint32_t low = index + 1 < capacity ? static_cast<uint16_t>(text[index + 1]) : 0;
            const bool pair = character < 0xDC00 && (low & 0xFC00) == 0xDC00;
            character = pair ? 0x10000 + ((character & 0x3FF) << 10 | (low & 0x3FF)) : kReplacement;
            if (pair) ++index;
        }
        append_utf8(result, character);
    }
    return result;
}

}  // namespace backline::vst3
