// The input's way: from the rings to the session, or past it; and what the changes beside it come to.
#include <algorithm>

#include "worker.h"

namespace backline {
namespace {

constexpr double kKeptSeconds = 1.8;    // of input, at most, for a session that is still to come
constexpr size_t kPlayed = 1024;        // MIDI messages, for a session that begins before them
constexpr double kSettleSeconds = 0.4;  // of the song, without another such change, until one opens another session

}  // namespace

// Sends what has come.
void Worker::carry() {
    const uint64_t written = exchange_.input.written();
    if (written != exchange_.input.read_count()) last_input_ = Clock::now();
    // Where the audio thread waits for output before it gives input, the first of it must come from nothing.
    if (awaited() && timing_.latency == 0 && !session_->begun())
        session_->send_audio(position(), nullptr, 0);
    walk(written, true);
    session_->go_on();
}

// Drops what no session will want: live, all but what could still be played in time, and a take's beginning.
void Worker::discard() {
    const uint64_t written = exchange_.input.written();
    walk(0, false);  // what has changed before those samples may say that they are offline: then nothing is dropped
    look_at_host();
    if (awaited() && !hopeless()) return;
    const auto most = static_cast<uint64_t>(samples(kKeptSeconds));
    uint64_t keep = std::min(timing_.latency + static_cast<uint64_t>(samples(exchange_.lead)), most);
    if (whole_take() && written - take_index_ <= most) keep = most;
    if (hopeless() || !wanted()) keep = 0;
    walk(written - std::min(written, keep), false);
    exchange_.wet_from.store(position(), std::memory_order_release);
}

// Goes on to the input's sample `until`, and through the changes up to there. What lies before a restart is void.
void Worker::walk(uint64_t until, bool send) {
    const uint64_t restart = exchange_.restart_index.load(std::memory_order_acquire);
    until = std::max(until, restart);
    while (!(session_ && reopen_)) {
        const uint64_t at = exchange_.input.read_count();
        const bool is_void = at < restart;
        uint64_t end = is_void ? restart : until;
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
        if (settle_ && !is_void) {
            // Once a sample is there all changes before it are: a bounce settles in the same place every time.
            if (position() >= *settle_ && exchange_.input.written() > at) {
                settle();
                continue;
            }
            if (*settle_ > position()) end = std::min(end, at + static_cast<uint64_t>(*settle_ - position()));
        }
        if (end <= at) return;
        if (!send || is_void) {
            exchange_.input.skip(end - at);
            continue;
        }
        // What somebody waits for must not be lost; live, a session with a lease keeps it.
        if (session_->congested() && (awaited() || session_->lease_seconds() == 0.0)) return;
        send_on(static_cast<uint32_t>(std::min<uint64_t>(end - at, session_->max_block())));
    }
}

// The next samples of the input, which a session after this one may want to hear again.
void Worker::send_on(uint32_t count) {
    const auto most = static_cast<size_t>(samples(kInputSeconds));
    if (sent_end_ != position()) sent_.clear();
    if (sent_.size() >= 2 * most) sent_.erase(sent_.begin(), sent_.end() - static_cast<std::ptrdiff_t>(most));
    sent_.resize(sent_.size() + count);
    Frame* const block = &sent_[sent_.size() - count];
    const int64_t from = position();
    exchange_.input.read(block, count);
    sent_end_ = position();
    session_->send_audio(from, block, count);
}

void Worker::apply(const Change& change) {
    const bool briefed = session_ && briefed_;  // another session is told when it begins
    switch (change.kind) {
        case Change::Kind::restart:
            apply_restart(change);
            break;
        case Change::Kind::jump:
            origin_ = change.position - static_cast<int64_t>(change.index);
            break;
        case Change::Kind::parameter:
            apply_parameter(change);
            break;
        case Change::Kind::transport:
            known_transport_ = true;
            transport_ = change.transport;
            transport_position_ = change.position;
            if (briefed) session_->send_transport(change.position, change.transport);
            break;
        case Change::Kind::midi:
            remember_midi(change);
            if (briefed) session_->send_midi(change.position, change.midi, change.midi_size);
            break;
    }
}

void Worker::apply_restart(const Change& change) {
    origin_ = change.position - static_cast<int64_t>(change.index);
    started_ = true;
    if (offline_ || change.offline) held_ = {}, played_.clear();  // a bounce begins with nothing, and leaves nothing
    offline_ = change.offline;
    timing_ = change.timing;
    take_ = change.take;
    take_index_ = change.index;
    if (!change.same_seed) take_seed_.reset();
    settle_.reset();
    missing_server_.reset();
    reopen_ = true;
    drain_ = bounced_ = false;
    known_transport_ = false;
    exchange_.session_start = kNoSession;
    exchange_.wet_from = change.position;
    exchange_.output.rewind(change.position, exchange_.capacity(timing_.latency));
    exchange_.take.store(take_, std::memory_order_release);
    exchange_.announce_progress();
}

// What a session is opened with takes effect where it settles, by the song's time: a knob that is dragged, or
// automated, opens one session and not fifty. Until then the old one plays on.
void Worker::apply_parameter(const Change& change) {
    const uint32_t index = change.parameter;
    if (is_slot(index) && change.binding != settings_.slots.binding()) return;  // it meant another parameter
    if (values_[index] == change.value) return;
    values_[index] = change.value;
    if (index == kSeed || index == kPack) take_seed_.reset();
    if (session_ && session_->opened()) session_->send_parameter(change.position, index, change.value);
    if (index == kPrompt && session_ && briefed_) session_->send_texts(texts(), change.position);
    if (!reopens(index)) return;
    if (change.index == take_index_ && !(session_ && session_->begun()))
        reopen_ = true;  // nothing has been played: it belongs to the opening
    else
        settle_ = change.position + samples(kSettleSeconds);
}

// Of what is too old to be told again, only what it has left held counts.
void Worker::remember_midi(const Change& change) {
    played_.push_back(change);
    if (played_.size() <= kPlayed) return;
    held_.take(played_.front().midi);
    played_.pop_front();
}

void Worker::settle() {
    settle_.reset();
    if (!session_ || !stale()) return;
    reopen_ = true;
    drain_ = awaited() && session_->ready();
}

// Whether a change of it wants another session. Where there is none, the text may be what the server refuses.
bool Worker::reopens(uint32_t index) const {
    if (values_[kTiming] != 0.0 && (index == kVisibility || index == kChunk)) return false;  // as advised
    return parameters()[index].reopens || (session_ ? session_->fixes(index) : index == kPrompt);
}

// Whether another session is wanted than the one that was opened, or refused, last.
bool Worker::stale() const {
    for (uint32_t index = 0; index < kParameterCount; ++index) {
        if (reopens(index) && values_[index] != wishes_.values[index]) return true;
    }
    return false;
}

void Worker::look_at_host() {
    demand_.look(Clock::now(), exchange_.input.written(), exchange_.sounded.load(std::memory_order_acquire),
                 exchange_.rolling.load(std::memory_order_acquire), settings_.value(kBypass) != 0.0);
}

}  // namespace backline
