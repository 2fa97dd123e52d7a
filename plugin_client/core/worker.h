// The instance's own thread: finds the server, keeps a session on it, and carries audio between it and the rings.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "demand.h"
#include "exchange.h"
#include "held_notes.h"
#include "session.h"
#include "settings.h"
#include "words.h"

namespace backline {

// What the user sees of an instance, active or not.
struct Shown {
    std::atomic<Status> status{Status::idle};
    std::atomic<uint32_t> seed{0};    // the newest that has been drawn; 0: none
    std::atomic<uint64_t> changes{0};  // of any of this, and of the words
};

// What the newest advice was about. It outlives the worker: hosts deactivate before they bounce, and a bounce plays as
// what was heard.
struct Advised {
    std::string pack;
    double latency = 0.0;  // seconds
    std::optional<net::Advice> advice;  // none of a server that gives none

    bool about(const std::string& wished, double seconds) const { return pack == wished && latency == seconds; }
};

class Worker {
  public:
    // Starts the thread, which keeps `shown` up to date.
    Worker(Settings& settings, Exchange& exchange, Shown& shown, Advised& advised);
    ~Worker();  // ends it, wherever it is, within some 20 ms

    // Any thread but the audio thread.
    Words words() const;
    uint64_t sessions() const { return sessions_; }
    uint64_t late_samples() const { return late_samples_; }
    double needed_seconds() const { return needed_seconds_; }
    double compute_seconds() const { return compute_seconds_; }

  private:
    using Clock = std::chrono::steady_clock;

    // All that follows is the thread's.
    void run();
    void recover(const char* what) noexcept;
    bool connect();
    net::Status reach(const net::Address& address);
    void lack_server(const net::Status& why);
    void ask_for_packs();
    bool play();
    bool open();
    uint64_t seed();
    bool find_pack();
    bool advise(net::Open open);
    void follow_pack(uint32_t number);
    NamedTexts texts() const;
    void tell_texts();
    bool stream();
    bool fits();
    void begin(std::optional<int64_t> earliest = std::nullopt);
    void tell_notes(int64_t from, bool anew);
    void drain();
    void pause();
    bool may_be_taken() const;
    bool falls_behind() const;
    void step(int milliseconds);
    bool resume();
    bool returns() const;
    void leave();
    void take_leave();

    // The input's way, in worker_input.cpp.
    void carry();
    void discard();
    void walk(uint64_t until, bool send);
    void send_on(uint32_t count);
    void apply(const Change& change);
    void apply_restart(const Change& change);
    void apply_parameter(const Change& change);
    void remember_midi(const Change& change);
    void settle();
    bool reopens(uint32_t index) const;
    bool stale() const;
    void look_at_host();
    int64_t position() const { return origin_ + static_cast<int64_t>(exchange_.input.read_count()); }
    double seconds(uint64_t samples) const { return static_cast<double>(samples) / exchange_.activation.sample_rate; }
    int64_t samples(double seconds) const { return static_cast<int64_t>(seconds * exchange_.activation.sample_rate); }

    // The audio thread waits for what is due: nothing of the input may be dropped.
    bool awaited() const { return offline_ || exchange_.hurried.load(std::memory_order_acquire); }
    bool hopeless() const { return awaited() && exchange_.hopeless.load(std::memory_order_acquire) == take_; }
    bool wanted() const { return offline_ || (awaited() ? !demand_.abandoned() : demand_.wanted()); }
    // All of the take's input is still there.
    bool whole_take() const { return started_ && exchange_.input.read_count() == take_index_; }
    bool stopping() const { return stop_.load(std::memory_order_relaxed); }
    // The last session ended because no audio came, and none has come since.
    bool unheard() const { return idle_at_ == exchange_.input.written(); }

    // What the user sees, in worker_status.cpp.
    void say(Status status, const Words& words);
    void show();
    uint64_t hurried_dry() const;
    void say_playing();
    bool missed_lately();
    std::string foreign_metre() const;
    void fail(const net::Status& status);
    void give_up(Status status, const Words& words);
    void note_end(const net::Status& status, Clock::time_point opened);

    Settings& settings_;
    Exchange& exchange_;
    std::unique_ptr<net::Connection> connection_;
    std::unique_ptr<net::Call> list_;   // of the server's packs
    std::unique_ptr<net::Call> farewell_;  // of the newest session that has been left
    Clock::time_point farewell_since_;
    std::unique_ptr<Session> session_;  // after the connection, so that it goes first
    std::optional<Clock::time_point> cut_at_;  // since when it has no call
    uint32_t version_ = 0;              // of the settings that are in force
    uint32_t texts_version_ = 0;        // of the texts that have been sent, or refused
    std::string endpoint_;              // that the connection is to
    net::Servers servers_;              // as the user has written them down
    std::chrono::milliseconds back_off_;
    net::Pack pack_;                    // as this server has described it; without a name: not yet
    bool waiting_ = false;              // for the server's mind to change: it has said no
    uint64_t waiting_since_ = 0;        // calls for a session that there had been by then
    uint32_t refusals_ = 0;             // in a row
    uint32_t broken_chunks_ = 0;        // sessions in a row that a chunk's failure has ended
    uint32_t cuts_ = 0;                 // sessions in a row that ended as if a proxy allowed no more
    Demand demand_;
    std::optional<Clock::time_point> missing_server_;  // offline: since when this take has looked for one in vain
    bool no_server_ = false;                           // a bounce has waited for one in vain

    // What the changes of the input have come to.
    int64_t origin_ = 0;  // position of the input ring's sample 0
    double values_[kParameterCount] = {};
    bool started_ = false;  // there has been a restart
    bool offline_ = false;
    Timing timing_;
    uint32_t take_ = 0;
    uint64_t take_index_ = 0;           // of its first sample in the input ring
    std::optional<int64_t> settle_;     // position at which changes that want another session count as final
    std::optional<uint32_t> take_seed_;  // that has been drawn for this take
    bool briefed_ = false;  // the session knows what it must before the first audio
    bool reopen_ = false;   // the session is not what is wanted any more
    bool drain_ = false;    // but what is due from it is
    uint64_t idle_at_ = std::numeric_limits<uint64_t>::max();  // samples that had come when the last session idled out
    bool bounced_ = false;  // awaited: this take has had a session, and none can go on where it ended
    Wishes wishes_;         // that it was opened with
    std::vector<Frame> sent_;  // the newest input that a session has got, up to `sent_end_`
    int64_t sent_end_ = 0;
    bool known_transport_ = false;
    Transport transport_;
    int64_t transport_position_ = 0;
    HeldNotes held_;             // before the first of `played_`
    std::deque<Change> played_;  // the newest MIDI, whether a session has heard it or not
    Clock::time_point last_input_;
    Clock::time_point last_missing_;
    uint64_t missing_ = 0, missing_late_ = 0;

    Status said_ = Status::connecting;  // before the audio thread's view of it
    Words words_;
    uint64_t shown_dry_ = 0;  // of the hurry, in the words

    Shown& shown_;
    Advised& advised_;
    mutable std::mutex mutex_;
    Words shown_words_;
    std::atomic<uint64_t> sessions_{0}, late_samples_{0};
    uint64_t late_before_ = 0;  // of sessions that have ended
    double said_needed_ = -1.0;
    uint64_t said_lost_ = 0;
    std::string said_metre_;
    std::atomic<double> needed_seconds_{0.0}, compute_seconds_{0.0};
    std::atomic<bool> stop_{false};
    std::thread thread_;  // last: everything it uses is there
};

}  // namespace backline
