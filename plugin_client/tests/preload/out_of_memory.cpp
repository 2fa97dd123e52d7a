// A want of memory: preloaded, it refuses the first BACKLINE_REFUSALS requests of BACKLINE_LARGE bytes or more that are
// made by other threads than the first one.
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>

extern "C" {
void* __libc_malloc(size_t);

void* malloc(size_t size) {
    static std::atomic<long> refusals{-1};
    static std::atomic<size_t> large{0};
    if (refusals < 0) {
        const char* const count = std::getenv("BACKLINE_REFUSALS");
        const char* const bytes = std::getenv("BACKLINE_LARGE");
        large = bytes ? std::strtoul(bytes, nullptr, 10) : ~size_t{0};
        refusals = count ? std::strtol(count, nullptr, 10) : 0;
    }
    if (size >= large && refusals > 0 && syscall(SYS_gettid) != getpid()) {
        --refusals;
        errno = ENOMEM;
        return nullptr;
    }
    return __libc_malloc(size);
}
}
