// The addresses behind a host's name, asked of the system without waiting for them: once at a time, however many want
// to know, and however often they give up and begin anew.
#pragma once

#include <sys/socket.h>

#include <memory>
#include <string>
#include <vector>

namespace backline::net {

struct SocketAddress {
    sockaddr_storage storage = {};
    socklen_t size = 0;
};

// One thread at a time for each; making one locks for a moment.
class Lookup {
  public:
    Lookup(const std::string& host, const std::string& port);
    Lookup(const Lookup&) = delete;
    Lookup& operator=(const Lookup&) = delete;

    bool done() const;
    // Once it is: best first, and where there are none, why.
    const std::vector<SocketAddress>& found() const;
    const std::string& problem() const;

    struct Answer;

  private:
    std::shared_ptr<Answer> answer_;  // the asking thread has it too, and whoever asks for the same
};

}  // namespace backline::net
