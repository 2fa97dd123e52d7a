// connect, play, connect again: the worker's life in the order in which it happens.
#include "worker.h"

#include <algorithm>
#include <cmath>

#include "net/address.h"

namespace backline {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kShortestBackOff{50}, kLongestBackOff{1000};
constexpr int kCarryMilliseconds = 2;        // between looks at the rings while audio comes
constexpr int kIdleMilliseconds = 20;        // while none does
constexpr int kAnswerMilliseconds = 10'000;  // a server that is gone shows sooner: the connection is lost
constexpr milliseconds kLateShown{2000};     // after wet was missing
constexpr double kSpareSeconds = 0.02;       // of the latency that is not filled with input from before a session

std::string in_seconds(double seconds) {
    return parameter_to_text(kLatencyBudget, seconds);
}

}  // namespace

Worker::Worker(Settings& settings, Exchange& exchange, std::atomic<Status>& status)
    : settings_(settings), exchange_(exchange), back_off_(kShortestBackOff), status_(status) {
    say(Status::connecting, "Looking for a server; the input passes dry.");
    thread_ = std::thread([this] { run(); });
}

Worker::~Worker() {
    stop_ = true;
    exchange_.wake_worker();
    thread_.join();
}

std::string Worker::message() const {
    const std::lock_guard lock(mutex_);
    return message_;
}

void Worker::run() {
    version_ = settings_.version();
    while (!stopping()) {
        if (!(connect() && play())) pause();
    }
    session_.reset();
    connection_.reset();
}

// ---- connecting ------------------------------------------------------------------------------------------------

bool Worker::connect() {
    const std::string endpoint = settings_.endpoint();
    if (connection_ && !connection_->lost() && endpoint == endpoint_) return true;
    endpoint_ = endpoint;
    connection_.reset();
    std::vector<net::Address> addresses;
    std::string problem;
    if (!net::addresses_of(endpoint, addresses, problem)) {
        say(Status::connecting, problem + ". The input passes dry.");
        return false;
    }
    std::string tried;
    for (const net::Address& address : addresses) {
        connection_ = std::make_unique<net::Connection>(address);
        while (!connection_->connected() && !connection_->lost() && !stopping()) step(kIdleMilliseconds);
        if (stopping()) return false;
        if (!connection_->lost()) break;
        tried += (tried.empty() ? "" : "; ") + connection_->status().message;
    }
    if (connection_->lost()) {
        if (hopeless())
            give_up(Status::failed, tried + ". The bounce holds dry from there.");
        else
            say(Status::connecting, tried + ". The input passes dry.");
        return false;
    }
    if (!exchange_.reached) ask_for_packs();
    exchange_.reached = true;
    exchange_.announce_progress();
    return true;
}

// Once an activation. Nobody waits for the answer: a server that has just started takes long over its first one.
void Worker::ask_for_packs() {
    list_ = connection_->start(net::kListPacks, [this](net::Bytes bytes) {
        net::ListPacksResponse list;
        if (!net::decode(bytes, list)) return;
        std::vector<std::string> names;
        for (const net::Pack& pack : list.packs) names.push_back(pack.name);
        settings_.add_packs(names);
    });
    list_->send(net::ListPacksRequest());
    list_->finish();
}

// Waits before the next attempt, each time longer.
void Worker::pause() {
    const auto until = Clock::now() + back_off_;
    back_off_ = std::min(2 * back_off_, kLongestBackOff);
    while (!stopping() && Clock::now() < until) step(kIdleMilliseconds);
}

// Lets time pass where nothing can be sent: the connection lives on, and input that is too old goes.
void Worker::step(int milliseconds) {
    if (connection_ && !connection_->lost()) {
        connection_->run(milliseconds, exchange_.wake_fd());
    } else {
        exchange_.wait_for_wake(milliseconds);
    }
    exchange_.clear_wake();
    discard();
}

// ---- a session -------------------------------------------------------------------------------------------------

// From the first block on to whatever ends the session; false where the next attempt should wait.
bool Worker::play() {
    version_ = settings_.version();
    while (!started_ || hopeless() || unheard()) {
        if (stopping() || version_ != settings_.version()) return true;
        if (connection_->lost()) return false;
        step(started_ ? kIdleMilliseconds : kCarryMilliseconds);
    }
    const bool again = open() && stream();
    if (session_) late_before_ += session_->late_samples();
    session_.reset();
    exchange_.session_start = kNoSession;
    return again || reopen_;
}

// Asks for the pack and then for a session on it; true once that is ready.
bool Worker::open() {
    reopen_ = drain_ = false;
    std::copy(std::begin(values_), std::end(values_), std::begin(wishes_.values));
    wishes_.pack = settings_.pack(static_cast<uint32_t>(values_[kPack]));
    wishes_.offline = offline_;
    say(Status::opening, "The server opens pack '" + wishes_.pack + "'; until then the input passes dry.");

    const auto wanted = [this] { return discard(), !stopping() && !reopen_ && !hopeless(); };
    net::Pack pack;
    const net::Status found =
        net::ask(*connection_, net::kGetPack, net::GetPackRequest{wishes_.pack}, pack, kAnswerMilliseconds, wanted);
    if (!found.ok()) {
        if (wanted()) fail(found);
        return false;
    }
    session_ = std::make_unique<Session>(*connection_, exchange_, pack, wishes_);
    while (!session_->ready()) {
        if (session_->ended()) fail(session_->status());
        if (session_->ended() || !wanted()) return false;
        step(kCarryMilliseconds);
    }
    const double budget = seconds(exchange_.activation.latency);
    if (offline_ && session_->needs().offline_seconds > budget) {
        give_up(Status::budget_too_small, "Waiting cannot help a bounce whose output needs input from " +
                                              in_seconds(session_->needs().offline_seconds) +
                                              " later: raise the latency budget (" + in_seconds(budget) +
                                              "), or choose a smaller visibility or chunk. It holds dry.");
        return false;
    }
    ++sessions_;
    bounced_ = offline_;
    return true;
}

// Carries audio until the session ends or is not what is wanted any more; false where it should have gone on.
bool Worker::stream() {
    begin();
    const auto opened = Clock::now();
    while (!session_->ended() && !hopeless()) {
        carry();
        if (version_ != settings_.version()) reopen_ = true;
        if (!offline_ && seconds(exchange_.input.available()) > kBehindSeconds) reopen_ = true;
        if (reopen_ || stopping()) {
            if (drain_) drain();
            return true;
        }
        const bool busy = !offline_ && Clock::now() - last_input_ < std::chrono::seconds(1);
        connection_->run(busy ? kCarryMilliseconds : kIdleMilliseconds, exchange_.wake_fd());
        exchange_.clear_wake();
        late_samples_ = late_before_ + session_->late_samples();
        needed_seconds_ = session_->needs().seconds;
        compute_seconds_ = session_->needs().compute_seconds;
        say_playing();
    }
    if (Clock::now() - opened > kLongestBackOff) back_off_ = kShortestBackOff;
    // The server needs the place of a session that the host has not played through for long.
    if (session_->ended() && session_->status().code == net::kDeadlineExceeded) idle_at_ = exchange_.input.written();
    fail(session_->ended() ? session_->status() : net::Status{net::kDeadlineExceeded, "the server does not answer"});
    return false;
}

// What the server must know before the first audio.
void Worker::begin() {
    const Activation& activation = exchange_.activation;
    if (!offline_) {  // input from before the session helps only as long as its output can still be played
        const double spare = seconds(activation.latency) - session_->needs().seconds - kSpareSeconds;
        const auto keep = static_cast<uint64_t>(std::max(0.0, spare) * activation.sample_rate);
        const uint64_t written = exchange_.input.written();
        walk(written - std::min(written, keep), false);
    } else if (activation.latency == 0) {
        session_->send_audio(position(), nullptr, 0);  // it plays ahead of its first input
    }
    if (known_transport_) session_->send_transport(transport_position_, transport_);
    for (uint32_t index = 0; index < kParameterCount; ++index) {
        if (values_[index] == wishes_.values[index] || parameters()[index].reopens) continue;
        if (!session_->send_parameter(position(), index, values_[index])) reopen_ = true;
    }
    missing_ = exchange_.underrun_samples;
    last_missing_ = Clock::time_point();
}

// Offline a change that needs another session takes effect where it was made: what is due before comes first.
void Worker::drain() {
    session_->finish();
    while (!session_->ended() && !hopeless() && !stopping()) {
        if (exchange_.restart_index.load(std::memory_order_acquire) > exchange_.input.read_count()) return;
        connection_->run(kIdleMilliseconds, exchange_.wake_fd());
        exchange_.clear_wake();
    }
}

// ---- the input's way -------------------------------------------------------------------------------------------

// Sends what has come.
void Worker::carry() {
    const uint64_t written = exchange_.input.written();
    if (written != exchange_.input.read_count()) last_input_ = Clock::now();
    walk(written, true);
}

// Drops what no session will want: live, all but what could still be played in time.
void Worker::discard() {
    const uint64_t written = exchange_.input.written();
    walk(0, false);  // what has changed before those samples may say that they are offline: then nothing is dropped
    if (offline_ && !hopeless()) return;
    const Activation& activation = exchange_.activation;
    const auto most = static_cast<uint64_t>(kBehindSeconds * activation.sample_rate);
    const uint64_t keep = hopeless() ? 0 : std::min<uint64_t>(activation.latency, most);
    walk(written - std::min(written, keep), false);
}

// Goes on to the input's sample `until`, and through the changes up to there. What lies before a restart is void.
void Worker::walk(uint64_t until, bool send) {
    const uint64_t restart = exchange_.restart_index.load(std::memory_order_acquire);
    until = std::max(until, restart);
    while (!(session_ && reopen_)) {
        const uint64_t at = exchange_.input.read_count();
        uint64_t end = at < restart ? restart : until;
        if (exchange_.changes.available() > 0) {
            const uint64_t index = exchange_.changes.front().index;
            if (index <= at) {
                const Change change = exchange_.changes.front();
                exchange_.changes.skip(1);
                apply(change);
                if (change.kind == Change::Kind::restart) return;  // how much is wanted depends on it
                continue;
            }
            end = std::min(end, index);
        }
        if (end <= at) return;
        if (!send || at < restart) {
            exchange_.input.skip(end - at);
            continue;
        }
        if (session_->congested()) return;
        const auto count = static_cast<uint32_t>(std::min<uint64_t>(end - at, session_->max_block()));
        block_.resize(count);
        const int64_t from = position();
        exchange_.input.read(block_.data(), count);
        session_->send_audio(from, block_.data(), count);
    }
}

void Worker::apply(const Change& change) {
    const bool open = session_ && session_->ready();
    switch (change.kind) {
        case Change::Kind::restart:
            origin_ = change.position - static_cast<int64_t>(change.index);
            started_ = true;
            offline_ = change.offline;
            take_ = change.take;
            reopen_ = true;
            drain_ = bounced_ = false;
            known_transport_ = false;
            exchange_.session_start = kNoSession;
            exchange_.output.rewind(change.position);
            exchange_.take.store(take_, std::memory_order_release);
            exchange_.announce_progress();
            break;
        case Change::Kind::jump:
            origin_ = change.position - static_cast<int64_t>(change.index);
            break;
        case Change::Kind::parameter:
            if (values_[change.parameter] == change.value) break;
            values_[change.parameter] = change.value;
            if (parameters()[change.parameter].reopens ||
                (open && !session_->send_parameter(change.position, change.parameter, change.value))) {
                reopen_ = true;
                drain_ = offline_ && open;
            }
            break;
        case Change::Kind::transport:
            known_transport_ = true;
            transport_ = change.transport;
            transport_position_ = change.position;
            if (open) session_->send_transport(change.position, change.transport);
            break;
        case Change::Kind::midi:
            if (open) session_->send_midi(change.position, change.midi, change.midi_size);
            break;
    }
}

// ---- what the user sees ----------------------------------------------------------------------------------------

void Worker::say(Status status, const std::string& message) {
    const std::lock_guard lock(mutex_);
    status_ = status;
    message_ = message;
}

void Worker::say_playing() {
    const uint64_t missing = exchange_.underrun_samples;
    if (missing != missing_) last_missing_ = Clock::now();
    missing_ = missing;
    const double needed = session_->needs().seconds, budget = seconds(exchange_.activation.latency);
    const bool too_small = !offline_ && needed > budget + 0.5 / exchange_.activation.sample_rate;
    const bool late = !offline_ && Clock::now() - last_missing_ < kLateShown;
    const Status status = too_small ? Status::budget_too_small : late ? Status::late : Status::playing;
    if (status == status_ && needed == said_needed_) return;
    said_needed_ = needed;
    std::string message =
        "Pack '" + wishes_.pack + "' needs a latency of " + in_seconds(needed) + " and has " + in_seconds(budget) + ".";
    if (too_small)
        message += " Raise the latency budget, or choose a smaller visibility or chunk.";
    else if (late)
        message += " Some output came too late lately; the input passed dry where it was missing.";
    say(status, message);
}

// The server is gone, or has said no.
void Worker::fail(const net::Status& status) {
    const bool gone = status.ok() || status.code == net::kUnavailable || status.code == net::kDeadlineExceeded;
    const std::string reason = status.ok() ? "the server has closed the session" : status.message;
    if (gone && !(offline_ && bounced_)) return say(Status::connecting, reason + ". The input passes dry.");
    const Status shown = gone ? Status::failed : Status::refused;
    give_up(shown, reason + (offline_ ? ". The bounce holds dry from there." : ". The input passes dry."));
}

// Nobody waits for this take any more, if anybody has.
void Worker::give_up(Status status, const std::string& message) {
    say(status, message);
    if (!offline_) return;
    exchange_.hopeless.store(take_, std::memory_order_release);
    exchange_.announce_progress();
}

}  // namespace backline
