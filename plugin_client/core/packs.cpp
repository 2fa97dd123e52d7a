// The packs that an instance can choose from, and where they are remembered.
#include "packs.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "net/address.h"
#include "numbers.h"

namespace backline {
namespace {

constexpr const char* kMissing = " (not on the server)";
constexpr size_t kLongestName = 255;

// Of the file and of servers: what a menu can show.
bool is_name(const std::string& text) {
    return !text.empty() && text.size() <= kLongestName &&
           std::all_of(text.begin(), text.end(), [](unsigned char c) { return c >= ' ' && c != 127; });
}

std::vector<std::string> remembered() {
    std::vector<std::string> names;
    const std::string folder = net::state_folder();
    std::ifstream file(folder.empty() ? "" : folder + "/packs");
    for (std::string name; names.size() < kMaximumPacks && std::getline(file, name);) names.push_back(name);
    return names;
}

// As good as it goes: without it a new instance waits for the server's list.
void remember(const std::vector<std::string>& names) {
    const std::string folder = net::state_folder();
    if (folder.empty() || names == remembered()) return;
    std::error_code problem;
    if (std::filesystem::create_directories(folder, problem))
        std::filesystem::permissions(folder, std::filesystem::perms::owner_all, problem);
    const std::string path = folder + "/packs";
    std::string written = path + ".XXXXXX";  // other instances may be at it as well
    const int made = mkstemp(written.data());
    if (made < 0) return;
    close(made);
    std::ofstream file(written);
    for (const std::string& name : names) file << name << '\n';
    file.close();
    if (!file || std::rename(written.c_str(), path.c_str()) != 0) std::remove(written.c_str());
}

std::vector<std::string>::const_iterator found_in(const std::vector<std::string>& names, uint32_t count,
                                                  const std::string& text) {
    const auto end = names.begin() + std::min<std::ptrdiff_t>(count, static_cast<std::ptrdiff_t>(names.size()));
    const auto exact = std::find(names.begin(), end, text);
    if (exact != end) return exact;
    const auto similar =
        std::find_if(names.begin(), end, [&](const std::string& name) { return lower_case(name) == lower_case(text); });
    return similar == end ? names.end() : similar;
}

// Leaves those whose names are among `names`.
template <class Named>
void keep(std::vector<Named>& all, const std::vector<std::string>& names) {
    const auto other = [&](const Named& one) { return std::find(names.begin(), names.end(), one.name) == names.end(); };
    all.erase(std::remove_if(all.begin(), all.end(), other), all.end());
}

}  // namespace

void narrow_to_first_task(net::Pack& pack) {
    if (pack.tasks.empty()) return;
    const net::Task task = pack.tasks.front();
    keep(pack.inputs, task.inputs);
    keep(pack.texts, task.texts);
    keep(pack.parameters, task.parameters);
}

Packs::Packs() {
    add(remembered());
    known_ = shown_ = static_cast<uint32_t>(names_.size());
}

PackState Packs::state() const {
    const std::lock_guard lock(mutex_);
    return {names_, automated_ ? counted_.load() : 0, automated_};
}

void Packs::set_state(const PackState& state) {
    const std::lock_guard lock(mutex_);
    const std::vector<std::string> known = std::exchange(names_, state.names);
    add(known);
    known_ = shown_ = static_cast<uint32_t>(names_.size());
    counted_ = state.counted;
    automated_ = state.automated;
}

std::string Packs::name(uint32_t number) const {
    const std::lock_guard lock(mutex_);
    return number < names_.size() ? names_[number] : "";
}

std::string Packs::text(uint32_t number) const {
    const std::lock_guard lock(mutex_);
    const std::string& name = names_[std::min(number, shown_ - 1)];
    return missing(name) ? name + kMissing : name;
}

bool Packs::find(const std::string& text, double& number) const {
    const std::lock_guard lock(mutex_);
    auto found = found_in(names_, shown_, text);
    if (found == names_.end()) found = found_in(names_, shown_, text.substr(0, text.find(kMissing)));
    if (found == names_.end()) return false;
    return number = static_cast<double>(found - names_.begin()), true;
}

void Packs::offer(const std::vector<net::Pack>& packs) {
    std::vector<std::string> offered;
    for (const net::Pack& pack : packs)
        if (is_name(pack.name)) offered.push_back(pack.name);
    remember(offered);
    for (const net::Pack& pack : packs) describe(pack);
    const std::lock_guard lock(mutex_);
    add(offered);
    known_ = static_cast<uint32_t>(names_.size());
    offered_.swap(offered);
}

void Packs::describe(const net::Pack& pack) {
    const std::lock_guard lock(mutex_);
    narrow_to_first_task(described_[pack.name] = pack);
    ++revision_;
}

net::Pack Packs::description(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto found = described_.find(name);
    if (found != described_.end()) return found->second;
    net::Pack unknown;
    unknown.name = name;
    return unknown;
}

bool Packs::show() {
    const std::lock_guard lock(mutex_);
    return shown_.exchange(known_) != known_;
}

bool Packs::missing(const std::string& name) const {
    return !offered_.empty() && std::find(offered_.begin(), offered_.end(), name) == offered_.end();
}

void Packs::add(const std::vector<std::string>& names) {
    for (const std::string& name : names) {
        const bool known = !is_name(name) || std::find(names_.begin(), names_.end(), name) != names_.end();
        if (!known && names_.size() < kMaximumPacks) names_.push_back(name);
    }
}

}  // namespace backline
