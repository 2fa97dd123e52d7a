// What the user has written of servers, above all of those on other machines: ~/.config/backline/servers.toml.
//
//     ["studio.example:50505"]     # the address, as it is written elsewhere
//     key = "backline_..."         # as `backline access add` has printed it
//     ca = "studio-ca.pem"         # beside this file; without it: the authorities that the system trusts
//     tls = true                   # which key and ca say already
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "address.h"

namespace backline::net {

// How a server is reached, and what is shown to it.
struct Access {
    bool tls = false;
    std::string key;  // empty: none
    std::string ca;   // path of a PEM file; empty: the system's
};

// Where the file is; empty where the user has no home.
std::string servers_file();

// What the file said when it was read. Anything but the audio thread, one at a time.
class Servers {
  public:
    // Reads the file again if it has changed, and returns whether it has. Where it throws, the next look reads again.
    bool look();
    bool changed() const;  // since then

    // Why the file is of no use, and what to do; then nothing of it holds, and nobody can tell which server wants what.
    const std::string& problem() const { return problem_; }
    const std::vector<std::string>& addresses() const { return addresses_; }  // as they stand there
    Access access(const Address& address) const;  // however it is written; plain where nothing is

  private:
    using Signature = std::array<int64_t, 5>;
    Signature signature() const;
    void read();

    std::string path_ = servers_file();
    Signature seen_ = {-1};
    std::string problem_;
    std::vector<std::string> addresses_;
    std::map<std::string, Access> access_;  // by place
};

}  // namespace backline::net
