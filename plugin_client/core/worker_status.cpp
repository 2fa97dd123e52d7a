// What the user sees of the worker: a status, and in words what it means and what to do.
#include <algorithm>
#include <cstdio>

#include "worker.h"

namespace backline {
namespace {

constexpr std::chrono::milliseconds kLateShown{2000};   // after wet was missing
constexpr std::chrono::seconds kSound{10};              // a session that played so long was none of a broken model
constexpr double kProxyBytes = 1 << 20;                 // that nginx lets through of one stream, unless told otherwise
constexpr double kProxyFrom = 0.9, kProxyTo = 1.7;      // of them, with what lies in buffers on the way
constexpr uint32_t kBrokenChunks = 2, kCutStreams = 2;  // in a row

}  // namespace

void Worker::say(Status status, const Words& words) {
    said_ = status;
    words_ = words;
    show();
}

// A host that bounces without saying so keeps what passed dry: that has failed, whatever else is said.
void Worker::show() {
    const uint64_t dry = shown_dry_ = hurried_dry();
    const bool failed = dry > 0 && said_ != Status::refused && said_ != Status::budget_too_small;
    const Status status = failed ? Status::failed : said_;
    const Words said = failed ? words::hurried(seconds(dry), words_) : words_;
    const std::lock_guard lock(mutex_);
    const bool changed = shown_.status != status || shown_words_.brief != said.brief;
    shown_.status = status;
    shown_words_ = said;
    if (changed) ++shown_.changes;
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
    const std::string metre = foreign_metre();
    if (shown_dry_ == hurried_dry() && status == said_ && needed == said_needed_ && lost == said_lost_ &&
        metre == said_metre_)
        return;
    said_metre_ = metre;
    said_needed_ = needed;
    said_lost_ = lost;
    words::Play play;
    play.pack = wishes_.pack;
    play.seed = wishes_.seed;
    play.needed_seconds = needed;
    play.budget_seconds = budget;
    play.live = timing_.live;
    play.missed = missed;
    play.too_small = too_small;
    play.cut = cuts_ >= kCutStreams;
    play.frames = !pack_.takes.empty();
    play.lost_midi = lost;
    if (wishes_.values[kTiming] != 0.0) play.advice = advised_.advice;
    play.metre = metre;
    for (const std::string& learnt : pack_.metres) play.learnt += (play.learnt.empty() ? "" : ", ") + learnt;
    say(status, words::playing(play));
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

// The host's, as people write it, where its bars neither make bars that the pack has learnt nor are made of them; else
// nothing.
std::string Worker::foreign_metre() const {
    if (!known_transport_ || pack_.metres.empty()) return "";
    for (const std::string& learnt : pack_.metres) {
        unsigned numerator = 0, denominator = 0;
        if (std::sscanf(learnt.c_str(), "%u/%u", &numerator, &denominator) != 2) return "";  // of a newer server
        const uint64_t ours = uint64_t{numerator} * transport_.denominator;
        const uint64_t theirs = uint64_t{transport_.numerator} * denominator;
        if (ours == 0 || ours % theirs == 0 || theirs % ours == 0) return "";
    }
    return std::to_string(transport_.numerator) + "/" + std::to_string(transport_.denominator);
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
    if (gone && !(awaited() && bounced_)) return say(Status::connecting, words::ended(status, false, false));
    const bool played = session_ && session_->begun();
    waiting_ = !gone && !(played && status.code != net::kResourceExhausted && status.code != net::kAborted);
    refusals_ += waiting_;
    const Status shown = gone ? Status::failed : Status::refused;
    give_up(shown, words::ended(status, awaited(), waiting_));
}

// Nobody waits for this take any more, if anybody has.
void Worker::give_up(Status status, const Words& words) {
    say(status, words);
    if (!awaited()) return;
    exchange_.hopeless.store(take_, std::memory_order_release);
    exchange_.announce_progress();
}

}  // namespace backline
