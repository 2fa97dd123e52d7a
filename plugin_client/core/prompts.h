// The bank of prompts: words that the parameter Prompt chooses among, for the text that a pack is steered by.
//
// A parameter's value is a number and its text these words: so a host shows, stores and automates prompts without
// knowing of them, and words that its user types into the value's field find their slot, or become the last one.
//
// Nobody's at first. Then it is the user's own (typed, of a file, of a project), or the suggestions of a pack, which
// another pack's replace.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "net/messages.h"
#include "pack_texts.h"
#include "parameters.h"

namespace backline {

constexpr size_t kLongestPrompt = 120;  // bytes of UTF-8: as many units of UTF-16 or fewer, of which VST3 shows 127

// A text that a slot can hold: some words on one line.
bool is_prompt(const std::string& text);

// Of a pack's texts the one that Prompt drives: "query", else the first; null where it has none.
const net::PackText* prompted_text(const net::Pack& pack);

// What a project file keeps of it.
struct Bank {
    std::vector<std::string> words;  // kPrompts of them; none: it is nobody's
    std::string pack;                // whose suggestions they are; empty: they are the user's own
};

// The user's own: the first lines of prompts.txt in the folder of settings, filled up; nobody's where there is none.
Bank written_bank();

// Any thread but the audio thread: all but `version` takes a lock.
class Prompts {
  public:
    Prompts();

    Bank bank() const;
    void set_bank(const Bank& bank);  // one that is nobody's: the default
    // What new projects begin with, in place of our own words.
    void set_default(const Bank& bank);
    // Takes what the pack suggests, unless the bank is the user's own: first `written`, what the user has written for
    // its text before there was a bank, then what the pack plays by default.
    void follow(const net::Pack& pack, const NamedTexts& written);

    std::string words(uint32_t slot) const;
    // The slot that holds these words; where none does they are written into the last. False: they are no prompt.
    bool take(const std::string& typed, uint32_t& slot);

    uint32_t version() const { return version_; }  // of the words: grows

  private:
    void put(const Bank& bank);

    mutable std::mutex mutex_;
    Bank default_, bank_;
    std::vector<std::string> words_;
    std::atomic<uint32_t> version_{0};
};

}  // namespace backline
