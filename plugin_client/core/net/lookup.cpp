// A thread for each question: the system's own function waits, at worst for many seconds. Who asks again meanwhile
// waits for the same answer.
#include "lookup.h"

#include <dlfcn.h>
#include <netdb.h>

#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <thread>
#include <utility>

namespace backline::net {

struct Lookup::Answer {
    std::atomic<bool> done{false};
    std::vector<SocketAddress> found;
    std::string problem;
};

namespace {

// A thread that still waits must find its code where it was, even if the host has unloaded the plugin meanwhile.
void stay_loaded() {
    Dl_info here;
    if (dladdr(reinterpret_cast<void*>(&stay_loaded), &here) != 0)
        dlopen(here.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

void find(const std::string& host, const std::string& port, Lookup::Answer& answer) {
    addrinfo wanted = {}, *first = nullptr;
    wanted.ai_family = AF_UNSPEC;
    wanted.ai_socktype = SOCK_STREAM;
    wanted.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV;
    const int error = getaddrinfo(host.c_str(), port.c_str(), &wanted, &first);
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> all(error == 0 ? first : nullptr, freeaddrinfo);
    if (error != 0) answer.problem = gai_strerror(error);
    for (const addrinfo* each = all.get(); each != nullptr; each = each->ai_next) {
        SocketAddress& kept = answer.found.emplace_back();
        std::memcpy(&kept.storage, each->ai_addr, each->ai_addrlen);
        kept.size = each->ai_addrlen;
    }
}

// Whatever happens, there is an answer: a thread that throws would end the host's process.
void ask(const std::string& host, const std::string& port, Lookup::Answer& answer) noexcept {
    try {
        find(host, port, answer);
    } catch (const std::bad_alloc&) {
        answer.found.clear();
        answer.problem = "out of memory";  // short enough to want none
    }
    answer.done.store(true, std::memory_order_release);
}

}  // namespace

Lookup::Lookup(const std::string& host, const std::string& port) {
    static const bool stays = (stay_loaded(), true);
    static_cast<void>(stays);
    static std::mutex mutex;
    // Never destroyed: a host may end while instances live.
    static auto& asked = *new std::map<std::pair<std::string, std::string>, std::weak_ptr<Answer>>();
    const std::lock_guard lock(mutex);
    std::weak_ptr<Answer>& newest = asked[{host, port}];
    answer_ = newest.lock();
    if (answer_ && !done()) return;
    newest = answer_ = std::make_shared<Answer>();
    std::thread([host, port, answer = answer_] { ask(host, port, *answer); }).detach();
}

bool Lookup::done() const {
    return answer_->done.load(std::memory_order_acquire);
}

const std::vector<SocketAddress>& Lookup::found() const {
    return answer_->found;
}

const std::string& Lookup::problem() const {
    return answer_->problem;
}

}  // namespace backline::net
