// What a session has to say to its server, and has said: a call that breaks off swallows some of it, and the next one
// says that again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "net/connection.h"

namespace backline {

// One thread. Messages as they lie on the wire, each behind its length, in a ring that is there from the beginning and
// takes no memory until something is written: the oldest make room. They are counted as they are passed on.
class Kept {
  public:
    explicit Kept(size_t capacity)
        : capacity_(capacity), bytes_(static_cast<uint8_t*>(std::calloc(capacity, 1))) {
        if (!bytes_) throw std::bad_alloc();
    }

    // The next message, which waits to be passed on.
    void add(const net::Buffer& message) {
        const auto length = static_cast<uint32_t>(message.size());
        const uint64_t size = sizeof length + message.size();
        while (end_ - begin_ > capacity_ - std::min<uint64_t>(size, capacity_)) drop();
        if (size > capacity_) return void(whole_ = false);
        put(&length, sizeof length);
        put(message.data(), message.size());
    }

    bool waits() const { return next_ < end_; }  // something does
    size_t waiting_bytes() const { return static_cast<size_t>(end_ - next_); }
    void pass_on(net::Call& call) {  // the oldest message that waits
        const uint64_t from = next_ + kPrefix, to = next_ + size_at(next_);
        const size_t slot = from % capacity_, length = static_cast<size_t>(to - from);
        const size_t run = std::min(length, capacity_ - slot);
        call.send_encoded({bytes_.get() + slot, run}, {bytes_.get(), length - run});
        next_ = to;
    }

    // The server has so many of the messages that have been passed on: all others wait again. False where that cannot
    // be, or some of those are not there any more; then nothing but start_over() helps.
    bool go_back(uint64_t received) {
        while (first_ < received && begin_ < next_) drop();
        next_ = begin_;
        return whole_ && first_ == received;
    }
    // Nothing is kept, and what comes next is this message.
    void start_over(uint64_t number) {
        begin_ = next_ = end_;
        first_ = number;
        whole_ = true;
    }

  private:
    static constexpr uint64_t kPrefix = sizeof(uint32_t);
    struct Free {
        void operator()(void* memory) const { std::free(memory); }
    };

    void put(const void* from, size_t size) {
        const size_t slot = end_ % capacity_, run = std::min(size, capacity_ - slot);
        std::memcpy(bytes_.get() + slot, from, run);
        if (size > run) std::memcpy(bytes_.get(), static_cast<const uint8_t*>(from) + run, size - run);
        end_ += size;
    }
    uint64_t size_at(uint64_t at) const {
        uint8_t length[kPrefix];
        for (uint8_t& byte : length) byte = bytes_[at++ % capacity_];
        uint32_t number;
        std::memcpy(&number, length, sizeof number);
        return kPrefix + number;
    }
    void drop() {
        begin_ += size_at(begin_);
        if (begin_ > next_) {  // it has never been passed on, and so has no number
            next_ = begin_;
            whole_ = false;
        } else {
            ++first_;
        }
    }

    const size_t capacity_;
    const std::unique_ptr<uint8_t[], Free> bytes_;
    uint64_t begin_ = 0, next_ = 0, end_ = 0;  // in bytes: the oldest, the one to be passed on next, and room
    uint64_t first_ = 0;                       // the oldest one's number, among those that have been passed on
    bool whole_ = true;                        // all that has been added has been passed on, or will be
};

}  // namespace backline
