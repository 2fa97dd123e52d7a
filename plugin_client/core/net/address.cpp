// Addresses from text; names are not looked up.
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

namespace backline::net {

namespace {

constexpr const char* kLoopback = "127.0.0.1:50505";
constexpr const char* kUnix = "unix:";
constexpr const char* kRemedy =
    ": write unix:/path, or a name or IP address with a port, such as studio.example:50505 or 127.0.0.1:50505";

template <class Socket>
void keep(const Socket& socket, Address& address) {
    static_assert(sizeof(Socket) <= sizeof(sockaddr_storage));
    std::memcpy(&address.socket.storage, &socket, sizeof socket);
    address.socket.size = sizeof socket;
}

bool parse_path(const std::string& path, Address& address) {
    sockaddr_un socket = {};
    socket.sun_family = AF_UNIX;
    if (path.empty() || path.size() >= sizeof socket.sun_path || path.find('\0') != std::string::npos) return false;
    std::memcpy(socket.sun_path, path.data(), path.size());
    keep(socket, address);
    return true;
}

bool parse_port(const std::string& text, in_port_t& port) {
    if (text.empty() || text.size() > 5 || text.find_first_not_of("0123456789") != std::string::npos) return false;
    const int number = std::stoi(text);
    port = htons(static_cast<uint16_t>(number));
    return number > 0 && number <= 65535;
}

// Letters, digits, hyphens and dots; the last part is no number, as that of a mistyped IP address would be.
bool is_name(const std::string& host) {
    const auto part_of_name = [](unsigned char c) { return std::isalnum(c) != 0 || c == '-' || c == '.'; };
    const std::string last = host.substr(host.rfind('.') + 1);
    return host.size() < 254 && std::all_of(host.begin(), host.end(), part_of_name) &&
           last.find_first_not_of("0123456789") != std::string::npos;
}

bool parse_host_and_port(const std::string& text, Address& address) {
    const size_t colon = text.rfind(':');
    in_port_t port = 0;
    if (colon == std::string::npos || !parse_port(text.substr(colon + 1), port)) return false;
    address.host = text.substr(0, colon);
    address.port = std::to_string(ntohs(port));
    std::string& host = address.host;
    std::transform(host.begin(), host.end(), host.begin(), [](unsigned char c) { return std::tolower(c); });
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
        sockaddr_in6 socket = {};
        socket.sin6_family = AF_INET6;
        socket.sin6_port = port;
        if (inet_pton(AF_INET6, host.c_str(), &socket.sin6_addr) != 1) return false;
        keep(socket, address);
        return true;
    }
    sockaddr_in socket = {};
    socket.sin_family = AF_INET;
    socket.sin_port = port;
    if (inet_pton(AF_INET, host == "localhost" ? "127.0.0.1" : host.c_str(), &socket.sin_addr) != 1)
        return is_name(host);
    keep(socket, address);
    return true;
}

// What an environment variable says, where it is an absolute path; else nothing.
std::string folder_in(const char* variable) {
    const char* folder = std::getenv(variable);
    return folder != nullptr && folder[0] == '/' ? folder : "";
}

bool is_there(const Address& address) {
    struct stat found;
    return lstat(address.text.c_str() + std::strlen(kUnix), &found) == 0;
}

}  // namespace

bool parse_address(const std::string& text, Address& address, std::string& error) {
    address = {};
    address.text = text;
    const bool is_path = text.rfind(kUnix, 0) == 0;
    if (is_path ? parse_path(text.substr(std::strlen(kUnix)), address) : parse_host_and_port(text, address))
        return true;
    error = "\"" + text + "\" is no address of a server" + kRemedy;
    return false;
}

std::string state_folder() {
    std::string state = folder_in("XDG_STATE_HOME");
    const std::string home = folder_in("HOME");
    if (state.empty() && !home.empty()) state = home + "/.local/state";
    return state.empty() ? "" : state + "/backline";
}

std::string config_folder() {
    std::string config = folder_in("XDG_CONFIG_HOME");
    const std::string home = folder_in("HOME");
    if (config.empty() && !home.empty()) config = home + "/.config";
    return config.empty() ? "" : config + "/backline";
}

std::vector<std::string> user_sockets() {
    const std::string folders[] = {folder_in("XDG_RUNTIME_DIR"), "/run/user/" + std::to_string(geteuid()),
                                   state_folder()};
    std::vector<std::string> found;
    for (const std::string& folder : folders) {
        const std::string text = kUnix + folder + "/backline.sock";
        Address address;
        std::string too_long;
        if (folder.empty() || !parse_address(text, address, too_long)) continue;
        if (std::find(found.begin(), found.end(), text) == found.end()) found.push_back(text);
    }
    return found;
}

bool addresses_of(const std::string& endpoint, const std::vector<std::string>& servers, std::vector<Address>& addresses,
                  std::string& error) {
    const char* chosen = std::getenv("BACKLINE_ADDRESS");
    const std::string named = !endpoint.empty() || chosen == nullptr ? endpoint : chosen;
    addresses.clear();
    if (!named.empty()) return parse_address(named, addresses.emplace_back(), error);
    for (const std::string& text : user_sockets()) {
        Address address;
        if (parse_address(text, address, error) && is_there(address)) addresses.push_back(address);
    }
    parse_address(kLoopback, addresses.emplace_back(), error);
    for (const std::string& text : servers)
        if (text != kLoopback) parse_address(text, addresses.emplace_back(), error);
    return true;
}

}  // namespace backline::net
