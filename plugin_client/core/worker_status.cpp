// What the user sees of the worker: a status, and in words what it means and what to do.
#include <algorithm>

#include "worker.h"

namespace backline {
namespace {

constexpr std::chrono::milliseconds kLateShown{2000};   // after wet was missing
constexpr std::chrono::seconds kSound{10};              // a session that played so long was none of a broken model
constexpr double kProxyBytes = 1 << 20;                 // that nginx lets through of one stream, unless told otherwise
constexpr double kProxyFrom = 0.9, kProxyTo = 1.7;      // of them, with what lies in buffers on the way
constexpr uint32_t kBrokenChunks = 2, kCutStreams = 2;  // in a row

std::string in_seconds(double seconds) {
    return parameter_to_text(kLatencyBudget, seconds);
}

}  // namespace

void Worker::say(Status status, const std::string& message) {
    said_ = status;
    words_ = message;
    show();
}

// A host that bounces without saying so keeps what passed dry: that has failed, whatever else is said.
void Worker::show() {
    const uint64_t dry = shown_dry_ = hurried_dry();
    const bool failed = dry > 0 && said_ != Status::refused && said_ != Status::budget_too_small;
    std::string message = words_;
    if (failed)
        message = "The host pulls faster than time without saying that it bounces, and " + in_seconds(seconds(dry)) +
                  " passed dry: bounce again, offline or in real time. " + words_;
    const std::lock_guard lock(mutex_);
    status_ = failed ? Status::failed : said_;
    message_ = message;
}

uint64_t Worker::hurried_dry() const {
    return exchange_.hurried ? exchange_.hurried_dry.load() : 0;
}

void Worker::say_playing() {
    const bool missed = missed_lately();
    const double needed = session_->needs().seconds, budget = seconds(timing_.latency);
    const bool too_small = missed && needed > budget + 0.5 / exchange_.activation.sample_rate;
    const Status status = too_small ? Status::budget_too_small : missed ? Status::late : Status::playing;
    const uint64_t lost = exchange_.lost_midi;
    if (shown_dry_ == hurried_dry() && status == said_ && needed == said_needed_ && lost == said_lost_) return;
    said_needed_ = needed;
    said_lost_ = lost;
    std::string message =
        "Pack '" + wishes_.pack + "' needs a latency of " + in_seconds(needed) + " and has " + in_seconds(budget) + ".";
    if (too_small)
        message += " Raise the latency budget, or choose a smaller visibility or chunk.";
    else if (missed)
        message += " Some output came too late lately; the input passed dry where it was missing.";
    if (cuts_ >= kCutStreams)
        message += " Something on the way to the server ends each stream after 1 MB: in nginx, client_max_body_size 0.";
    if (lost > 0) message += " " + std::to_string(lost) + " MIDI messages came too fast and were left out.";
    say(status, message);
}

// Whether wet was due in the last seconds and was not there: what a session needs at worst says nothing of that.
bool Worker::missed_lately() {
    if (awaited()) return false;
    const uint64_t missing = exchange_.underrun_samples, late = session_->late_samples();
    const int64_t due = origin_ + static_cast<int64_t>(exchange_.input.written()) -
                        static_cast<int64_t>(timing_.latency);
    const bool absent = due > exchange_.wet_from && exchange_.output.end() < due;
    if (missing != missing_ || late != missing_late_ || absent) last_missing_ = Clock::now();
    missing_ = missing;
    missing_late_ = late;
    return Clock::now() - last_missing_ < kLateShown;
}

// How a session came to its end says what to do about the next.
void Worker::note_end(const net::Status& status, Clock::time_point opened) {
    if (Clock::now() - opened >= kSound) broken_chunks_ = 0;
    if (status.code == net::kAborted) ++broken_chunks_;
    const double proxied = static_cast<double>(session_->sent_bytes()) / kProxyBytes;
    const bool cut = !status.ok() && !connection_->lost() && proxied >= kProxyFrom && proxied <= kProxyTo;
    cuts_ = cut ? cuts_ + 1 : 0;
}

// The server is gone, or has said no.
void Worker::fail(const net::Status& status) {
    const bool over = status.code == net::kAborted && broken_chunks_ < kBrokenChunks;  // that session, and no more
    const bool gone =
        status.ok() || over || status.code == net::kUnavailable || status.code == net::kDeadlineExceeded;
    const std::string reason = status.ok() ? "the server has closed the session" : status.message;
    if (gone && !(awaited() && bounced_)) return say(Status::connecting, reason + ". The input passes dry.");
    const bool played = session_ && session_->begun();
    waiting_ = !gone && !(played && status.code != net::kResourceExhausted && status.code != net::kAborted);
    refusals_ += waiting_;
    const Status shown = gone ? Status::failed : Status::refused;
    give_up(shown, reason + (awaited() ? ". The bounce holds dry from there."
                             : waiting_ ? ". The input passes dry; the server is asked again now and then, and on play."
                                        : ". The input passes dry."));
}

// Nobody waits for this take any more, if anybody has.
void Worker::give_up(Status status, const std::string& message) {
    say(status, message);
    if (!awaited()) return;
    exchange_.hopeless.store(take_, std::memory_order_release);
    exchange_.announce_progress();
}

}  // namespace backline
