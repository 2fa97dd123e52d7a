// The real-time rule, enforced: between backline_realtime(1) and (0) a thread that allocates, locks, waits or makes a
// system call that could block ends the program, and the function's name is on standard error.
//
// An eventfd's write and sem_post cannot block, and would be allowed; the plugin needs neither while it is live.
#include <dlfcn.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
}

namespace {

__attribute__((tls_model("initial-exec"))) thread_local bool realtime = false;

void check(const char* name) {
    if (!realtime) return;
    realtime = false;
    std::fprintf(stderr, "the audio thread called %s\n", name);
    std::abort();
}

}  // namespace

extern "C" {

void backline_realtime(int on) {
    realtime = on != 0;
}

void* malloc(size_t size) {
    return check("malloc"), __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
    return check("calloc"), __libc_calloc(count, size);
}
void* realloc(void* memory, size_t size) {
    return check("realloc"), __libc_realloc(memory, size);
}
void* aligned_alloc(size_t align, size_t size) {
    return check("aligned_alloc"), __libc_memalign(align, size);
}
void free(void* memory) {
    if (memory) check("free");
    __libc_free(memory);
}

// The same function of the C library, after the check.
#define GUARD(result, name, parameters, arguments)                              \
    result name parameters {                                                    \
        static const auto real = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        check(#name);                                                           \
        return real arguments;                                                  \
    }

GUARD(int, pthread_mutex_lock, (pthread_mutex_t * mutex), (mutex))
GUARD(int, pthread_rwlock_rdlock, (pthread_rwlock_t * lock), (lock))
GUARD(int, pthread_rwlock_wrlock, (pthread_rwlock_t * lock), (lock))
GUARD(int, pthread_cond_wait, (pthread_cond_t * condition, pthread_mutex_t* mutex), (condition, mutex))
GUARD(int, pthread_cond_clockwait,
      (pthread_cond_t * condition, pthread_mutex_t* mutex, clockid_t clock, const timespec* time),
      (condition, mutex, clock, time))
GUARD(int, pthread_cond_signal, (pthread_cond_t * condition), (condition))
GUARD(int, pthread_create,
      (pthread_t * thread, const pthread_attr_t* attributes, void* (*begin)(void*), void* argument),
      (thread, attributes, begin, argument))
GUARD(int, pthread_join, (pthread_t thread, void** result), (thread, result))
GUARD(int, sem_wait, (sem_t * semaphore), (semaphore))
GUARD(int, poll, (pollfd * descriptors, nfds_t count, int timeout), (descriptors, count, timeout))
GUARD(ssize_t, read, (int file, void* to, size_t size), (file, to, size))
GUARD(ssize_t, write, (int file, const void* from, size_t size), (file, from, size))
GUARD(ssize_t, send, (int file, const void* from, size_t size, int flags), (file, from, size, flags))
GUARD(ssize_t, recv, (int file, void* to, size_t size, int flags), (file, to, size, flags))
GUARD(ssize_t, sendmsg, (int file, const msghdr* message, int flags), (file, message, flags))
GUARD(ssize_t, recvmsg, (int file, msghdr* message, int flags), (file, message, flags))
GUARD(ssize_t, writev, (int file, const iovec* parts, int count), (file, parts, count))
GUARD(int, connect, (int file, const sockaddr* address, socklen_t size), (file, address, size))
GUARD(int, close, (int file), (file))
GUARD(int, nanosleep, (const timespec* time, timespec* left), (time, left))
GUARD(int, clock_nanosleep, (clockid_t clock, int flags, const timespec* time, timespec* left),
      (clock, flags, time, left))
GUARD(int, sched_yield, (), ())

// Whoever waits on a futex without the C library's locks.
long syscall(long number, ...) {
    static const auto real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    check("syscall");
    va_list list;
    va_start(list, number);
    long given[6];
    for (long& value : given) value = va_arg(list, long);
    va_end(list);
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
}
