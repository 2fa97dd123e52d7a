// The two names of a socket, compared.
#include "own_end.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

namespace backline::net {

bool is_own_end(int socket) {
    sockaddr_storage here = {}, there = {};
    socklen_t here_size = sizeof here, there_size = sizeof there;
    if (getsockname(socket, reinterpret_cast<sockaddr*>(&here), &here_size) != 0) return false;
    if (getpeername(socket, reinterpret_cast<sockaddr*>(&there), &there_size) != 0) return false;
    if (here.ss_family != AF_INET && here.ss_family != AF_INET6) return false;  // names of Unix sockets are no ends
    return here_size == there_size && std::memcmp(&here, &there, here_size) == 0;
}

}  // namespace backline::net
