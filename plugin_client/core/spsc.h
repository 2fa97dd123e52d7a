// A ring between one thread that writes and one that reads, without locks.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace backline {

// Counts of what has been written and read never wrap: they are what the threads agree upon.
template <class T>
class Spsc {
  public:
    explicit Spsc(size_t capacity) : items_(capacity) {}

    // The writer's.
    size_t room() const { return items_.size() - (written() - read_.load(std::memory_order_acquire)); }
    void write(const T* from, size_t count) {  // `count` is at most room()
        const uint64_t at = written_.load(std::memory_order_relaxed);
        const size_t slot = at % items_.size();
        const size_t run = std::min(count, items_.size() - slot);
        std::copy_n(from, run, items_.begin() + slot);
        std::copy_n(from + run, count - run, items_.begin());
        written_.store(at + count, std::memory_order_release);
    }

    // The reader's.
    size_t available() const { return written() - read_.load(std::memory_order_relaxed); }
    const T& front() const { return items_[read_count() % items_.size()]; }  // where one is available
    void read(T* to, size_t count) {                                         // `count` is at most available()
        const size_t slot = read_count() % items_.size();
        const size_t run = std::min(count, items_.size() - slot);
        std::copy_n(items_.begin() + slot, run, to);
        std::copy_n(items_.begin(), count - run, to + run);
        skip(count);
    }
    void skip(size_t count) { read_.store(read_count() + count, std::memory_order_release); }

    // Anyone's: how many there have been.
    uint64_t written() const { return written_.load(std::memory_order_acquire); }
    uint64_t read_count() const { return read_.load(std::memory_order_acquire); }
    size_t capacity() const { return items_.size(); }

  private:
    std::vector<T> items_;
    alignas(64) std::atomic<uint64_t> written_{0};
    alignas(64) std::atomic<uint64_t> read_{0};
};

}  // namespace backline
