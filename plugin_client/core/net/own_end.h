// A TCP connection to itself: where nobody listens on a port that the system hands out, it may hand out that very one.
#pragma once

namespace backline::net {

// Whether both ends of the connected socket are the same. Such a connection would keep a server from its port, and
// answers whatever is sent to it.
bool is_own_end(int socket);

}  // namespace backline::net
