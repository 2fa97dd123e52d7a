// Sizes of the rings, and how the two threads wake each other.
#include "exchange.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmath>
#include <system_error>

namespace backline {
namespace {

uint32_t samples(double seconds, double rate) {
    return static_cast<uint32_t>(std::ceil(seconds * rate));
}

}  // namespace

uint32_t Exchange::capacity(uint32_t latency) const {
    return latency + samples(kAheadSeconds, activation.sample_rate) + kPiece;
}

Exchange::Exchange(const Activation& given)
    : activation(given),
      input(samples(kInputSeconds, given.sample_rate)),
      changes(kChanges),
      output(capacity(given.most_latency)),
      session_start(kNoSession),
      wake_fd_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (wake_fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

Exchange::~Exchange() {
    close(wake_fd_);
}

void Exchange::wake_worker() noexcept {
    const uint64_t one = 1;
    // Cannot block; where it fails the counter is full, and the worker is about to wake anyway.
    [[maybe_unused]] const ssize_t written = write(wake_fd_, &one, sizeof one);
}

void Exchange::clear_wake() noexcept {
    uint64_t count;
    [[maybe_unused]] const ssize_t read_bytes = read(wake_fd_, &count, sizeof count);
}

void Exchange::wait_for_wake(int milliseconds) {
    pollfd waited{wake_fd_, POLLIN, 0};
    poll(&waited, 1, milliseconds);
}

void Exchange::announce_progress() {
    {
        const std::lock_guard lock(mutex_);
        progress.fetch_add(1, std::memory_order_release);
    }
    progressed_.notify_one();
}

void Exchange::wait_for_progress(uint64_t seen, int milliseconds) {
    std::unique_lock lock(mutex_);
    progressed_.wait_for(lock, std::chrono::milliseconds(milliseconds),
                         [&] { return progress.load(std::memory_order_acquire) != seen; });
}

}  // namespace backline
