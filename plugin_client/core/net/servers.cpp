// Reads servers.toml, and nothing that others could have read or written.
#include "servers.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

namespace backline::net {

namespace {

constexpr size_t kLargestFile = 1 << 20;

// The whole of an open file; false where it cannot be read, or is too large.
bool read_all(int fd, std::string& text) {
    char bytes[4096];
    for (;;) {
        const ssize_t size = read(fd, bytes, sizeof bytes);
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return size == 0;
        text.append(bytes, static_cast<size_t>(size));
        if (text.size() > kLargestFile) return errno = EFBIG, false;
    }
}

// The text of a file that is this user's alone. An empty problem and an empty text: there is none.
std::string read_private(const std::string& path, std::string& text) {
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT ? "" : path + " cannot be read (" + std::strerror(errno) + ")";
    struct stat found = {};
    std::string problem;
    if (fstat(fd, &found) != 0 || !S_ISREG(found.st_mode))
        problem = path + " is no file";
    else if ((found.st_uid != geteuid() && found.st_uid != 0) || (found.st_mode & (S_IRWXG | S_IRWXO)) != 0)
        problem = path + " is open to others, and keys are for you alone: chmod 600 it, and let it be yours";
    else if (!read_all(fd, text))
        problem = path + " cannot be read (" + std::strerror(errno) + ")";
    close(fd);
    return problem;
}

std::string line_of(const toml::source_region& source) {
    return "line " + std::to_string(source.begin.line);
}

// The path as the file means it: from the user's home, or from the folder of the file.
std::string resolved(const std::string& path, const std::string& file) {
    const char* home = std::getenv("HOME");
    if (path.rfind("~/", 0) == 0 && home != nullptr) return home + path.substr(1);
    return path[0] == '/' ? path : file.substr(0, file.rfind('/') + 1) + path;
}

// The same for every way to write an address.
std::string place_of(const Address& address) {
    const SocketAddress& socket = address.socket;
    if (socket.size > 0) return {reinterpret_cast<const char*>(&socket.storage), socket.size};
    return address.host + ":" + address.port;
}

// What one entry says; else what is wrong with it.
std::string read_entry(const toml::table& entry, const std::string& file, Access& access) {
    bool plain = false;
    for (const auto& [key, value] : entry) {
        const std::string name(key.str());
        if (name == "tls" && value.is_boolean()) {
            access.tls = **value.as_boolean();
            plain = !access.tls;
        } else if ((name == "key" || name == "ca") && value.is_string() && !(**value.as_string()).empty()) {
            const std::string& text = **value.as_string();
            (name == "key" ? access.key : access.ca) = name == "key" ? text : resolved(text, file);
        } else {
            return line_of(value.source()) + R"(: there is key = "...", ca = "..." and tls = true or false)";
        }
    }
    if (std::any_of(access.key.begin(), access.key.end(), [](char c) { return c <= ' ' || c > '~'; }))
        return line_of(entry.source()) + ": the key holds what no key does: give it as it was printed";
    if (plain && !access.key.empty()) return line_of(entry.source()) + ": a key goes over TLS only: leave tls out";
    access.tls = access.tls || (!plain && !(access.key.empty() && access.ca.empty()));
    return "";
}

}  // namespace

std::string servers_file() {
    const std::string folder = config_folder();
    return folder.empty() ? "" : folder + "/servers.toml";
}

bool Servers::changed() const {
    return signature() != seen_;
}

bool Servers::look() {
    const Signature found = signature();
    if (found == seen_) return false;
    read();
    seen_ = found;
    return true;
}

void Servers::read() {
    addresses_.clear();
    access_.clear();
    std::string text;
    problem_ = path_.empty() ? "" : read_private(path_, text);
    if (!problem_.empty()) return;
    const toml::parse_result parsed = toml::parse(text);
    const auto spoilt = [&](const std::string& why) {
        addresses_.clear();
        access_.clear();
        problem_ = path_ + ", " + why;
    };
    if (!parsed) return spoilt(line_of(parsed.error().source()) + ": " + std::string(parsed.error().description()));
    std::map<uint32_t, std::string> order;  // by line
    for (const auto& [key, value] : parsed.table()) {
        const std::string name(key.str());
        Address address;
        std::string error;
        if (!value.is_table()) return spoilt(line_of(value.source()) + ": write [\"ADDRESS\"] before it");
        if (!parse_address(name, address, error)) return spoilt(line_of(key.source()) + ": " + error);
        if (address.local())
            return spoilt(line_of(key.source()) + ": a socket on this machine needs neither key nor TLS");
        const auto [entry, is_new] = access_.try_emplace(place_of(address));
        if (!is_new) return spoilt(line_of(key.source()) + ": " + name + " has another entry");
        if (std::string wrong = read_entry(*value.as_table(), path_, entry->second); !wrong.empty())
            return spoilt(wrong);
        order[key.source().begin.line] = name;
    }
    for (const auto& [line, name] : order) addresses_.push_back(name);
}

Access Servers::access(const Address& address) const {
    const auto found = access_.find(place_of(address));
    return found == access_.end() ? Access() : found->second;
}

// Of the file as it is now; of none at all, zeros.
Servers::Signature Servers::signature() const {
    struct stat found = {};
    if (path_.empty() || stat(path_.c_str(), &found) != 0) return {};
    return {static_cast<int64_t>(found.st_ino), static_cast<int64_t>(found.st_mode), found.st_size,
            found.st_mtim.tv_sec * 1'000'000'000 + found.st_mtim.tv_nsec,
            found.st_ctim.tv_sec * 1'000'000'000 + found.st_ctim.tv_nsec};
}

}  // namespace backline::net
