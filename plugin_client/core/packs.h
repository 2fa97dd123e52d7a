// The packs that an instance can choose from, by number.
//
// A pack keeps its number: new ones come after those that are known, and a project file keeps the list. Hosts are shown
// its beginning, which grows where the host can be told. A new instance begins with what this user's servers had last
// (a file in the user's state folder): some hosts, Ardour among them, never look at a list again.
//
// VST3 hosts store automation as a share of the list, so another length would make other packs of it. Where the song
// has moved Pack, the length that it was moved by is kept, in the project file as well. Files of before there was one
// counted by kMaximumPacks: that holds while such a project is open, and afterwards if it is seen to matter.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "net/messages.h"
#include "parameters.h"

namespace backline {

// Cuts the description down to what a session has that names no task: the pack's first one.
void narrow_to_first_task(net::Pack& pack);

// What a project file keeps of it.
struct PackState {
    std::vector<std::string> names;
    uint32_t counted = 0;    // by stored automation; 0: as many as are shown
    bool automated = false;  // and automation is known to be there
};

class Packs {
  public:
    Packs();

    // Any thread but the audio thread: these take a lock.
    PackState state() const;
    void set_state(const PackState& state);
    std::string name(uint32_t number) const;                   // empty where there is no such pack
    std::string text(uint32_t number) const;                   // as users read it; beyond what is shown, the last
    bool find(const std::string& text, double& number) const;  // among those that are shown
    void offer(const std::vector<net::Pack>& packs);           // a server has these, and no others
    void describe(const net::Pack& pack);                      // as the server has it now
    net::Pack description(const std::string& name) const;      // as it was described last; else but its name
    bool show();                                               // all that are known; false where they all are

    // Any thread; the audio thread too.
    uint32_t shown() const { return shown_; }
    uint32_t counted() const { return counted_ ? counted_ : shown_; }
    bool more() const { return known_ > shown_; }  // than hosts are shown
    uint32_t revision() const { return revision_; }  // of the descriptions: grows
    void note_automation() { counted_ = counted(), automated_ = true; }

  private:
    bool missing(const std::string& name) const;
    void add(const std::vector<std::string>& names);

    mutable std::mutex mutex_;
    std::vector<std::string> names_{"default", "passthrough", "stems", "mge"};  // that ship
    std::vector<std::string> offered_;                                          // by the server; empty: not known
    std::map<std::string, net::Pack> described_;
    std::atomic<uint32_t> revision_{0};
    std::atomic<uint32_t> known_, shown_, counted_{0};
    std::atomic<bool> automated_{false};
};

}  // namespace backline
