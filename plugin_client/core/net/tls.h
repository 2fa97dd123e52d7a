// TLS on a connected socket that does not block.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "servers.h"

namespace backline::net {

class Tls {
  public:
    // For a server of this name, or numeric address, which must show a certificate for it. Without `access` whoever
    // answers will do: to find out whether it speaks TLS, and to send it nothing.
    Tls(int fd, const std::string& host, const Access* access);
    ~Tls();  // takes leave, if that can be done at once; the socket stays open
    Tls(const Tls&) = delete;
    Tls& operator=(const Tls&) = delete;

    // Goes on with the greeting as far as that goes now. Before it is done nothing of ours may be sent.
    enum class Greeting { under_way, done, failed };
    Greeting greet();
    bool wants_to_send() const;  // whether the greeting waits for the socket to take something, and not to give
    bool understood() const;     // whether what listens there speaks TLS, once the greeting is over
    std::string problem(const std::string& server) const;  // why it has failed, and what to do

    // As recv() and send() on the socket.
    ssize_t receive(uint8_t* bytes, size_t size);
    ssize_t send(const uint8_t* bytes, size_t size);

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace backline::net
