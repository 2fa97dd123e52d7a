// Where a server listens: a Unix socket or a TCP port, from the text that users write.
#pragma once

#include <string>
#include <vector>

#include "lookup.h"

namespace backline::net {

struct Address {
    std::string text;        // as written, for messages
    std::string host, port;  // of TCP, in small letters and without zeros before it
    SocketAddress socket;    // of no size where the host is a name, which is to be looked up

    bool local() const { return socket.storage.ss_family == AF_UNIX; }
};

// "unix:/path", "host:port" or "[::1]:port". False, and `error` says what to write, where the text is no address.
bool parse_address(const std::string& text, Address& address, std::string& error);

// Where a user's programs keep what is not for the user's eyes, in a folder of ours; empty where the user has no home.
std::string state_folder();

// Where a user's settings are, in a folder of ours; empty where the user has no home.
std::string config_folder();

// Where a user's own socket may lie, best first, as addresses: the places that `backline serve` chooses from
// (service/unix_socket.py), without those that are too long for a socket.
std::vector<std::string> user_sockets();

// The addresses to try in turn for an instance's endpoint. An empty one means $BACKLINE_ADDRESS, else those of the
// user's sockets that are there, then loopback, then those in `servers`, which the user has written down. False, and
// `error` says what to write, where the text is no address.
bool addresses_of(const std::string& endpoint, const std::vector<std::string>& servers, std::vector<Address>& addresses,
                  std::string& error);

}  // namespace backline::net
