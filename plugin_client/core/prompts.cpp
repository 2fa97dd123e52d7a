// The bank of prompts: what it begins with, and what is typed into it.
#include "prompts.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "net/address.h"
#include "numbers.h"

namespace backline {
namespace {

constexpr size_t kLargestFile = 16 << 10;  // bytes; what lies beyond holds no line that counts
constexpr const char* kOurs[kPrompts] = {"vocals", "drums",   "bass",                     "piano",
                                         "guitar", "strings", "everything but the vocals", "the lead instrument"};

// Those that are prompts, each once, then our own words; as many as there are slots.
std::vector<std::string> filled(std::vector<std::string> wanted) {
    wanted.insert(wanted.end(), std::begin(kOurs), std::end(kOurs));
    std::vector<std::string> words;
    for (const std::string& each : wanted) {
        const bool known = std::find(words.begin(), words.end(), each) != words.end();
        if (is_prompt(each) && !known && words.size() < kPrompts) words.push_back(each);
    }
    return words;
}

}  // namespace

bool is_prompt(const std::string& text) {
    const auto shown = [](unsigned char c) { return c >= ' ' && c != 127; };
    return is_text(text) && text.size() <= kLongestPrompt && !text.empty() && text == trimmed(text) &&
           std::all_of(text.begin(), text.end(), shown);
}

const net::PackText* prompted_text(const net::Pack& pack) {
    const auto query = std::find_if(pack.texts.begin(), pack.texts.end(),
                                    [](const net::PackText& text) { return text.name == "query"; });
    if (query != pack.texts.end()) return &*query;
    return pack.texts.empty() ? nullptr : &pack.texts.front();
}

Bank written_bank() {
    const std::string folder = net::config_folder(), path = folder + "/prompts.txt";
    std::error_code problem;  // a pipe, which has no end, is no file
    if (folder.empty() || !std::filesystem::is_regular_file(path, problem)) return {};
    std::string text(kLargestFile, '\0');
    std::ifstream file(path, std::ios::binary);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
    std::vector<std::string> lines;
    std::istringstream rest(text);
    for (std::string line; std::getline(rest, line);) {
        const std::string words = trimmed(line);
        if (is_prompt(words)) lines.push_back(words);
    }
    return lines.empty() ? Bank() : Bank{filled(lines), ""};
}

Prompts::Prompts() : words_(filled({})) {}

Bank Prompts::bank() const {
    const std::lock_guard lock(mutex_);
    return bank_;
}

void Prompts::set_bank(const Bank& bank) {
    const std::lock_guard lock(mutex_);
    put(bank.words.empty() ? default_ : bank);
}

void Prompts::set_default(const Bank& bank) {
    const std::lock_guard lock(mutex_);
    default_ = bank;
    if (bank_.words.empty()) put(default_);
}

void Prompts::follow(const net::Pack& pack, const NamedTexts& written) {
    const net::PackText* const text = prompted_text(pack);
    const std::lock_guard lock(mutex_);
    const bool own = !bank_.words.empty() && bank_.pack.empty();
    if (text == nullptr || own || bank_.pack == pack.name) return;
    std::vector<std::string> words;
    if (const auto found = written.find(text->name); found != written.end()) words.push_back(found->second);
    words.push_back(text->default_value);
    words.insert(words.end(), text->suggestions.begin(), text->suggestions.end());
    put({filled(words), pack.name});
}

std::string Prompts::words(uint32_t slot) const {
    const std::lock_guard lock(mutex_);
    return words_[std::min(slot, kPrompts - 1)];
}

bool Prompts::take(const std::string& typed, uint32_t& slot) {
    const std::string words = trimmed(typed), lower = lower_case(words);
    if (!is_prompt(words)) return false;
    const std::lock_guard lock(mutex_);
    auto found = std::find(words_.begin(), words_.end(), words);
    if (found == words_.end())
        found = std::find_if(words_.begin(), words_.end(),
                             [&](const std::string& held) { return lower_case(held) == lower; });
    if (found == words_.end()) {
        Bank bank{words_, ""};
        bank.words.back() = words;
        put(bank);
        found = words_.end() - 1;
    }
    return slot = static_cast<uint32_t>(found - words_.begin()), true;
}

// Under the lock.
void Prompts::put(const Bank& bank) {
    bank_ = bank;
    const std::vector<std::string> words = bank.words.empty() ? filled({}) : bank.words;
    if (words == words_) return;
    words_ = words;
    ++version_;
}

}  // namespace backline
