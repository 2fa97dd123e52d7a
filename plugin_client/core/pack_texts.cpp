// What the user has written for the packs' texts, and what a session obeys of it.
#include "pack_texts.h"

#include <algorithm>

namespace backline {
namespace {

// By RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(const std::string& text) {
    for (size_t at = 0; at < text.size();) {
        const auto byte = [&](size_t index) { return index < text.size() ? static_cast<uint8_t>(text[index]) : 0; };
        const int first = byte(at), second = byte(at + 1);
        if ((first >= 0x80 && first < 0xC2) || first > 0xF4) return false;
        const size_t size = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
        for (size_t index = 1; index < size; ++index)
            if ((byte(at + index) & 0xC0) != 0x80) return false;
        if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second >= 0xA0)) return false;
        if ((first == 0xF0 && second < 0x90) || (first == 0xF4 && second >= 0x90)) return false;
        at += size;
    }
    return true;
}

}  // namespace

bool is_text(const std::string& text) {
    return text.size() <= kLongestText && text.find('\0') == std::string::npos && is_utf8(text);
}

NamedTexts PackTexts::written() const {
    const std::lock_guard lock(mutex_);
    return written_;
}

void PackTexts::set_written(const NamedTexts& texts) {
    const std::lock_guard lock(mutex_);
    written_ = texts;
    ++version_;
}

bool PackTexts::write(const std::string& name, const std::string& text) {
    if (!is_text(name) || !is_text(text)) return false;
    const std::lock_guard lock(mutex_);
    if (written_.size() >= kMostTexts && written_.count(name) == 0) return false;
    written_[name] = text;
    ++version_;
    return true;
}

void PackTexts::begin(const NamedTexts& texts) {
    const std::lock_guard lock(mutex_);
    in_force_.clear();
    for (const auto& [name, text] : texts) in_force_[name] = {text, std::nullopt};
}

void PackTexts::take_force(const std::string& name, const std::string& text, std::optional<int64_t> since) {
    const std::lock_guard lock(mutex_);
    in_force_[name] = {text, since};
}

std::optional<TextInForce> PackTexts::in_force(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = in_force_.find(name);
    return found == in_force_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace backline
