// What the user has written for the packs' texts, such as a prompt, and what a session obeys of it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>

namespace backline {

using NamedTexts = std::map<std::string, std::string>;

constexpr size_t kLongestText = 512;  // bytes, that the contract allows
constexpr size_t kMostTexts = 256;    // names

// UTF-8 without a NUL, and not too long.
bool is_text(const std::string& text);

// A text as the model plays by it.
struct TextInForce {
    std::string text;
    std::optional<int64_t> since;  // sample position; nothing: since the session began
};

// By name, for whichever pack has a text of that name. Any thread but the audio thread: all of it takes a lock.
class PackTexts {
  public:
    NamedTexts written() const;
    void set_written(const NamedTexts& texts);
    bool write(const std::string& name, const std::string& text);  // false: it is no text
    uint32_t version() const { return version_; }                  // of what is written: grows

    void begin(const NamedTexts& texts);  // a session has begun with these
    void take_force(const std::string& name, const std::string& text, std::optional<int64_t> since);
    std::optional<TextInForce> in_force(const std::string& name) const;  // nothing: no session obeys such a text

  private:
    mutable std::mutex mutex_;
    NamedTexts written_;
    std::map<std::string, TextInForce> in_force_;
    std::atomic<uint32_t> version_{0};
};

}  // namespace backline
