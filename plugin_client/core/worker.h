// The instance's own thread: finds the server, keeps a session on it, and carries audio between it and the rings.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "exchange.h"
#include "session.h"
#include "settings.h"

namespace backline {

class Worker {
  public:
    // Starts the thread, which keeps `status` up to date.
    Worker(Settings& settings, Exchange& exchange, std::atomic<Status>& status);
    ~Worker();  // ends it, wherever it is, within some 20 ms

    // Any thread but the audio thread.
    std::string message() const;
    uint64_t sessions() const { return sessions_; }
    uint64_t late_samples() const { return late_samples_; }
    double needed_seconds() const { return needed_seconds_; }
    double compute_seconds() const { return compute_seconds_; }

  private:
    using Clock = std::chrono::steady_clock;

    // All that follows is the thread's.
    void run();
    bool connect();
    void ask_for_packs();
    bool play();
    bool open();
    bool stream();
    void begin();
    void drain();
    void pause();
    void step(int milliseconds);

    // The input's way.
    void carry();
    void discard();
    void walk(uint64_t until, bool send);
    void apply(const Change& change);
    int64_t position() const { return origin_ + static_cast<int64_t>(exchange_.input.read_count()); }
    double seconds(uint64_t samples) const { return static_cast<double>(samples) / exchange_.activation.sample_rate; }

    bool stopping() const { return stop_.load(std::memory_order_relaxed); }
    bool hopeless() const { return offline_ && exchange_.hopeless.load(std::memory_order_acquire) == take_; }
    // The last session ended because no audio came, and none has come since.
    bool unheard() const { return idle_at_ == exchange_.input.written(); }
    void say(Status status, const std::string& message);
    void say_playing();
    void fail(const net::Status& status);
    void give_up(Status status, const std::string& message);

    Settings& settings_;
    Exchange& exchange_;
    std::unique_ptr<net::Connection> connection_;
    std::unique_ptr<net::Call> list_;   // of the server's packs
    std::unique_ptr<Session> session_;  // after the connection, so that it goes first
    uint32_t version_ = 0;              // of the settings that are in force
    std::string endpoint_;              // that the connection is to
    std::chrono::milliseconds back_off_;

    // What the changes of the input have come to.
    int64_t origin_ = 0;  // position of the input ring's sample 0
    double values_[kParameterCount] = {};
    bool started_ = false;  // there has been a restart
    bool offline_ = false;
    uint32_t take_ = 0;
    bool reopen_ = false;   // the session is not what is wanted any more
    bool drain_ = false;    // but what is due from it is
    uint64_t idle_at_ = std::numeric_limits<uint64_t>::max();  // samples that had come when the last session idled out
    bool bounced_ = false;  // offline: this take has had a session, and none can go on where it ended
    Wishes wishes_;         // that it was opened with
    std::vector<Frame> block_;
    bool known_transport_ = false;
    Transport transport_;
    int64_t transport_position_ = 0;
    Clock::time_point last_input_;
    Clock::time_point last_missing_;
    uint64_t missing_ = 0;

    std::atomic<Status>& status_;
    mutable std::mutex mutex_;
    std::string message_;
    std::atomic<uint64_t> sessions_{0}, late_samples_{0};
    uint64_t late_before_ = 0;  // of sessions that have ended
    double said_needed_ = -1.0;
    std::atomic<double> needed_seconds_{0.0}, compute_seconds_{0.0};
    std::atomic<bool> stop_{false};
    std::thread thread_;  // last: everything it uses is there
};

}  // namespace backline
