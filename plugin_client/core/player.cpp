// One block's way through the audio thread: events, transport, then pieces of at most kPiece samples.
#include "player.h"

#include <algorithm>
#include <cmath>

namespace backline {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kConnectPatience = std::chrono::seconds(10);   // offline, until a server answers
constexpr auto kProgressPatience = std::chrono::seconds(30);  // offline, without anything from it
constexpr int kLookMilliseconds = 20;
constexpr double kFurthestQuarter = 1e7;      // that the server takes, either side of the song's start
constexpr double kSameSongPosition = 1e-4;  // quarter notes: a transport that says what follows anyway is no news

// The server hears these; the others end here.
constexpr uint32_t kTold[] = {kPack, kGuidance, kTemperature, kKey, kSeed, kVisibility, kChunk};

bool in_a_song(double quarters) {
    return std::fabs(quarters) <= kFurthestQuarter;  // false for NaN, too
}

// A host may say anything, and the server takes only what music has.
bool sensible(const Transport& t) {
    const bool power_of_two = t.denominator != 0 && (t.denominator & (t.denominator - 1)) == 0;
    return t.tempo > 0.0 && t.tempo < 1000.0 && t.numerator >= 1 && t.numerator <= 64 && power_of_two &&
           t.denominator <= 64 && in_a_song(t.song_position) && in_a_song(t.bar_start) && std::isfinite(t.loop_start) &&
           std::isfinite(t.loop_end);
}

float peak_of(const float* const* channels, uint32_t offset, uint32_t count) {
    float peak = 0.0f;
    for (uint32_t channel = 0; channel < kChannels; ++channel)
        for (uint32_t i = 0; channels[channel] && i < count; ++i)
            peak = std::max(peak, std::fabs(channels[channel][offset + i]));
    return peak;
}

void raise(std::atomic<float>& meter, float peak) {
    if (peak > meter.load(std::memory_order_relaxed)) meter.store(peak, std::memory_order_relaxed);
}

}  // namespace

Player::Player(Settings& settings, Exchange& exchange)
    : settings_(settings),
      exchange_(exchange),
      delay_(exchange.activation.latency, kPiece),
      mixer_(exchange.activation.sample_rate) {
    std::fill(std::begin(told_), std::end(told_), std::nan(""));  // equal to nothing: all are told with the first block
}

void Player::process(const Block& block) noexcept {
    const bool offline = exchange_.offline.load(std::memory_order_relaxed);
    if (offline != offline_) {
        offline_ = offline;
        owes_restart_ = true;
    }
    if (owes_restart_) restart();
    if (block.transport) tell_transport(*block.transport);

    size_t next = 0;
    for (uint32_t offset = 0; offset < block.frames || next < block.event_count;) {
        while (next < block.event_count && (block.events[next].frame <= offset || offset >= block.frames))
            take_event(block.events[next++]);
        tell_parameters();
        uint32_t end = std::min(block.frames, offset + kPiece);
        if (next < block.event_count) end = std::min(end, std::max(offset + 1, block.events[next].frame));
        if (end > offset) process_piece(block, offset, end - offset);
        offset = std::max(offset, end);
    }
    if (offline_) exchange_.wake_worker();
}

void Player::reset() noexcept {
    dry_floor_ = wet_floor_ = position_;
    if (offline_) owes_restart_ = true;  // a bounce begins with a session of its own, so that it can be repeated
}

// A new take: what the worker has of the last one is not ours any more.
void Player::restart() noexcept {
    Change change;
    change.kind = Change::Kind::restart;
    change.offline = offline_;
    change.take = take_ + 1;
    if (!push(change)) return;  // no room: the next block tries again
    exchange_.restart_index.store(exchange_.input.written(), std::memory_order_release);
    ++take_;
    wet_floor_ = position_;
    owes_restart_ = false;
    std::fill(std::begin(told_), std::end(told_), std::nan(""));
    transport_position_ = -1;
}

void Player::tell_transport(const Transport& transport) noexcept {
    if (!sensible(transport)) return;
    if (transport_position_ >= 0) {
        Transport expected = transport_;
        const double seconds = static_cast<double>(position_ - transport_position_) / exchange_.activation.sample_rate;
        if (expected.playing) expected.song_position += seconds * expected.tempo / 60.0;
        const bool follows = std::fabs(expected.song_position - transport.song_position) <= kSameSongPosition &&
                             expected.playing == transport.playing && expected.tempo == transport.tempo &&
                             expected.numerator == transport.numerator &&
                             expected.denominator == transport.denominator &&
                             expected.bar_start == transport.bar_start && expected.looping == transport.looping &&
                             expected.loop_start == transport.loop_start && expected.loop_end == transport.loop_end;
        if (follows) return;
    }
    Change change;
    change.kind = Change::Kind::transport;
    change.transport = transport;
    if (!push(change)) return;
    transport_ = transport;
    transport_position_ = position_;
}

void Player::tell_parameters() noexcept {
    for (const uint32_t index : kTold) {
        const double value = settings_.value(index);
        if (value == told_[index]) continue;
        Change change;
        change.kind = Change::Kind::parameter;
        change.parameter = index;
        change.value = value;
        if (push(change)) told_[index] = value;
    }
}

void Player::take_event(const Event& event) noexcept {
    if (event.kind == Event::Kind::parameter) {
        if (event.parameter < kStatus) settings_.set_value(event.parameter, event.value);
    } else if (event.midi_size >= 1 && event.midi_size <= sizeof event.midi) {
        Change change;
        change.kind = Change::Kind::midi;
        std::copy_n(event.midi, event.midi_size, change.midi);
        change.midi_size = event.midi_size;
        push(change);
    }
}

void Player::process_piece(const Block& block, uint32_t offset, uint32_t count) noexcept {
    delay_.write(position_, block.main_input, offset, count);
    const int64_t due = position_ - exchange_.activation.latency + count;
    const auto arrived = [&] { return due <= wet_floor_ || (wet_is_ours() && exchange_.output.end() >= due); };
    // With latency the server needs this piece to play what is due; without, it plays ahead and must not be overtaken.
    const bool ahead = exchange_.activation.latency == 0;
    if (offline_ && ahead) wait_until(arrived);
    send_input(block, offset, count);
    if (offline_ && !ahead) wait_until(arrived);
    mix(block, offset, count);
    position_ += count;
}

void Player::send_input(const Block& block, uint32_t offset, uint32_t count) noexcept {
    const bool sidechain = settings_.value(kInput) != 0.0;
    const float* const* heard = sidechain ? block.sidechain : block.main_input;
    raise(exchange_.input_peak, peak_of(heard, offset, count));
    if (offline_) wait_until([&] { return exchange_.input.room() >= count; });
    if (lost_input_ && exchange_.input.room() >= count) {
        Change change;
        change.kind = Change::Kind::jump;
        lost_input_ = !push(change);
    }
    if (lost_input_ || owes_restart_ || exchange_.input.room() < count) {
        lost_input_ = true;
        return;
    }
    Frame frames[kPiece];
    for (uint32_t channel = 0; channel < kChannels; ++channel)
        for (uint32_t i = 0; i < count; ++i)
            frames[i].channels[channel] = heard[channel] ? heard[channel][offset + i] : 0.0f;
    exchange_.input.write(frames, count);
}

void Player::mix(const Block& block, uint32_t offset, uint32_t count) noexcept {
    const int64_t from = position_ - exchange_.activation.latency;
    float dry[kPiece][kChannels];
    delay_.read(from, dry_floor_, dry, count);
    if (wet_is_ours())
        exchange_.output.read(from, count, wet_);
    else
        std::fill_n(wet_.ports, count, uint8_t{0});

    const int64_t session_start = exchange_.session_start.load(std::memory_order_relaxed);
    uint64_t missing = 0;
    for (uint32_t i = 0; i < count; ++i) {
        if (from + i < wet_floor_)
            wet_.ports[i] = 0;
        else if (wet_.ports[i] == 0 && from + i >= session_start)
            ++missing;
    }
    if (missing) exchange_.underrun_samples.fetch_add(missing, std::memory_order_relaxed);

    mixer_.aim(settings_.value(kDryWet), settings_.value(kGain), settings_.value(kBypass) != 0.0);
    // Up to the floor nothing sounds; from there on the signal begins, in full.
    const auto silent = static_cast<uint32_t>(std::clamp<int64_t>(dry_floor_ - from, 0, count));
    if (silent > 0) {
        for (const auto& output : block.outputs)
            for (float* const out : output)
                if (out) std::fill_n(out + offset, silent, 0.0f);
        mixer_.settle();
    }
    const float peak = mixer_.mix(dry, wet_, silent, count, block.outputs, offset);
    raise(exchange_.output_peak, peak);
}

bool Player::push(Change change) noexcept {
    if (offline_) wait_until([&] { return exchange_.changes.room() > 0; });
    if (exchange_.changes.room() == 0) return false;
    change.index = exchange_.input.written();
    change.position = position_;
    exchange_.changes.write(&change, 1);
    return true;
}

bool Player::wet_is_ours() const noexcept {
    return exchange_.take.load(std::memory_order_acquire) == take_;
}

template <class Done>
void Player::wait_until(Done done) noexcept {
    auto since = Clock::now();
    uint64_t seen = exchange_.progress.load(std::memory_order_acquire);
    while (!done()) {
        if (exchange_.hopeless.load(std::memory_order_acquire) == take_) return;
        if (!exchange_.offline.load(std::memory_order_relaxed)) return;
        exchange_.wake_worker();
        exchange_.wait_for_progress(seen, kLookMilliseconds);
        const uint64_t now = exchange_.progress.load(std::memory_order_acquire);
        if (now != seen) {
            seen = now;
            since = Clock::now();
        }
        const bool reached = exchange_.reached.load(std::memory_order_acquire);
        if (Clock::now() - since >= (reached ? kProgressPatience : kConnectPatience)) {
            exchange_.hopeless.store(take_, std::memory_order_release);
            return;
        }
    }
}

}  // namespace backline
