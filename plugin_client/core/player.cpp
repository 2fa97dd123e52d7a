// One block's way through the audio thread: events, transport, then pieces of at most kPiece samples.
#include "player.h"

#include <algorithm>
#include <cmath>

namespace backline {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kConnectPatience = std::chrono::seconds(5);    // offline, until a server answers; the worker has less
constexpr auto kProgressPatience = std::chrono::seconds(30);  // offline, without anything from it
constexpr auto kHurriedPatience = std::chrono::seconds(5);    // the same, where the host has not said that it bounces
constexpr int kLookMilliseconds = 20;
constexpr double kFurthestQuarter = 1e7;      // that the server takes, either side of the song's start
constexpr float kSilence = 1e-3f;             // linear; below, nobody sings: a microphone's room
constexpr double kInTime = 0.02;              // seconds of lead, before this call's samples, that are none
constexpr double kSameSongPosition = 1e-3;  // quarter notes (hosts count 1/1920): what follows anyway is no news

// The server hears these; the others end here.
constexpr uint32_t kTold[] = {kPack, kGuidance, kTemperature, kKey, kSeed, kVisibility, kChunk, kPrompt, kJump, kTiming};

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
      timing_(exchange.activation.timing),
      delay_(exchange.activation.most_latency, kPiece),
      mixer_(exchange.activation.sample_rate),
      pace_(exchange.activation.sample_rate, exchange.activation.max_frames) {
    std::fill(std::begin(told_), std::end(told_), std::nan(""));  // equal to nothing: all are told with the first block
}

void Player::process(const Block& block) noexcept {
    follow_host(block);
    if (block.transport) follow_transport(*block.transport);
    if (owes_restart_) restart();
    rolling_ = block.transport && block.transport->playing;
    if (block.transport) tell_transport(*block.transport);
    tell_backlog();

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
    if (may_wait()) exchange_.wake_worker();
}

// Whether this call is one of a bounce, said or not.
void Player::follow_host(const Block& block) noexcept {
    const bool offline_by_setting = exchange_.offline.load(std::memory_order_relaxed);
    const bool offline = offline_by_setting || block.offline;
    withdrawable_ = offline_by_setting && !block.offline;
    pace_.pull(Clock::now(), block.frames);
    const double lead = pace_.lead() - block.frames / exchange_.activation.sample_rate;
    if (offline != offline_) {
        offline_ = offline;
        begin_take();
        if (offline) dry_floor_ = position_;  // a bounce begins with nothing, so that it can be repeated
    }
    if (lead <= kInTime) dry_ahead_ = 0;
    const bool hurried = !offline && pace_.hurried();
    if (hurried_ && !hurried) end_hurry();
    hurried_ = hurried;
    exchange_.lead.store(static_cast<float>(std::max(0.0, lead)), std::memory_order_relaxed);
    exchange_.hurried.store(hurried, std::memory_order_release);
    if (block.lost_midi) exchange_.lost_midi.fetch_add(block.lost_midi, std::memory_order_relaxed);
}

// *Play* begins a take: what it sounds like depends on what is heard from there on, and on nothing before. So the same
// song from the same place is the same band, whatever was rehearsed meanwhile. A host that makes no calls while it
// stands still has reset us.
void Player::follow_transport(const Transport& transport) noexcept {
    if (transport.playing && (stood_ || was_reset_)) owes_restart_ = true;
    stood_ = !transport.playing;
    was_reset_ = false;
}

void Player::begin_take() noexcept {
    owes_restart_ = owes_seed_ = true;
}

// The host plays in time again, or says that it bounces: what was given up for the hurry is not given up for that.
void Player::end_hurry() noexcept {
    uint32_t mine = take_;
    exchange_.hopeless.compare_exchange_strong(mine, 0, std::memory_order_acq_rel);
    exchange_.hurried_dry.store(0, std::memory_order_relaxed);
    dry_ahead_ = 0;
}

void Player::reset() noexcept {
    dry_floor_ = wet_floor_ = position_;
    pace_.reset();
    dry_ahead_ = 0;
    was_reset_ = true;
    if (offline_) begin_take();  // a bounce begins with a session of its own, so that it can be repeated
}

void Player::retime(const Timing& timing) noexcept {
    timing_ = timing;
    dry_floor_ = wet_floor_ = position_;
    owes_restart_ = true;
}

// A new take: what the worker has of the last one is not ours any more. The parameters come first, so that whoever sees
// the restart opens a session with them.
void Player::restart() noexcept {
    std::fill(std::begin(told_), std::end(told_), std::nan(""));
    Change change;
    change.kind = Change::Kind::restart;
    change.offline = offline_;
    change.take = take_ + 1;
    change.same_seed = !owes_seed_;
    change.timing = timing_;
    if (!tell_parameters() || !push(change)) return;  // no room: the next block tries again
    exchange_.restart_index.store(exchange_.input.written(), std::memory_order_release);
    ++take_;
    wet_floor_ = position_;
    owes_restart_ = owes_seed_ = false;
    transport_position_ = -1;
}

void Player::tell_transport(const Transport& transport) noexcept {
    exchange_.rolling.store(transport.playing ? Rolling::playing : Rolling::stopped, std::memory_order_release);
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

// False where there was no room for one.
bool Player::tell_parameters() noexcept {
    bool all = true;
    for (const uint32_t index : kTold) {
        const double value = settings_.value(index);
        if (value != told_[index]) all = tell_parameter(index, value) && all;
    }
    return tell_slots() && all;
}

// While they are being given other meanings none is told: the worker, which does it, knows them, and the next piece
// tells what has moved since.
bool Player::tell_slots() noexcept {
    bool all = true;
    for (uint32_t slot = 0; slot < settings_.slots.used(); ++slot) {
        double value;
        uint32_t binding;
        if (!settings_.slots.read(slot, value, binding)) return all;
        if (value == told_[kFirstSlot + slot] && binding == told_binding_[slot]) continue;
        if (tell_parameter(kFirstSlot + slot, value, binding))
            told_binding_[slot] = binding;
        else
            all = false;
    }
    return all;
}

bool Player::tell_parameter(uint32_t index, double value, uint32_t binding) noexcept {
    Change change;
    change.kind = Change::Kind::parameter;
    change.parameter = index;
    change.value = value;
    change.binding = binding;
    if (!push(change)) return false;
    told_[index] = value;
    return true;
}

void Player::take_event(const Event& event) noexcept {
    if (event.kind == Event::Kind::parameter) {
        if (!is_setting(event.parameter)) return;
        const double before = settings_.value(event.parameter);
        settings_.set_value(event.parameter, event.value);
        if (event.parameter == kPack && rolling_ && settings_.value(kPack) != before) settings_.packs.note_automation();
    } else if (event.midi_size >= 1 && event.midi_size <= sizeof event.midi) {
        tell_midi(event.midi, event.midi_size);
    }
}

// What finds no room waits in the backlog, and whatever comes after it does too.
void Player::tell_midi(const uint8_t* midi, uint8_t size) noexcept {
    Change change;
    change.kind = Change::Kind::midi;
    std::copy_n(midi, size, change.midi);
    change.midi_size = size;
    if (backlog_.empty() && push(change)) return;
    if (!backlog_.keep(midi, size)) exchange_.lost_midi.fetch_add(1, std::memory_order_relaxed);
}

void Player::tell_backlog() noexcept {
    while (!backlog_.empty() && exchange_.changes.room() > 0) {
        Change change;
        change.kind = Change::Kind::midi;
        change.midi_size = backlog_.take(change.midi);
        push(change);
    }
}

void Player::process_piece(const Block& block, uint32_t offset, uint32_t count) noexcept {
    delay_.write(position_, block.main_input, offset, count);
    const int64_t due = position_ - timing_.latency + count;
    const auto arrived = [&] {
        if (due <= wet_floor_ || (hurried_ && settings_.value(kBypass) != 0.0)) return true;
        if (!wet_is_ours()) return false;
        return exchange_.output.end() >= due || due <= exchange_.wet_from.load(std::memory_order_acquire);
    };
    // With latency the server needs this piece to play what is due; without, it plays ahead and must not be overtaken.
    const bool ahead = timing_.latency == 0;
    if (ahead) wait_until(arrived);
    send_input(block, offset, count);
    if (!ahead) wait_until(arrived);
    mix(block, offset, count);
    position_ += count;
}

void Player::send_input(const Block& block, uint32_t offset, uint32_t count) noexcept {
    const bool sidechain = settings_.value(kInput) != 0.0;
    const float* const* const inputs[kInputs] = {sidechain ? block.sidechain : block.main_input,
                                                 sidechain ? block.main_input : block.sidechain};
    const float peak = peak_of(inputs[0], offset, count);
    const bool beside = exchange_.inputs.load(std::memory_order_relaxed) > 1;
    raise(exchange_.input_peak, peak);
    if (peak >= kSilence || (beside && peak_of(inputs[1], offset, count) >= kSilence))
        exchange_.sounded.fetch_add(1, std::memory_order_release);
    wait_until([&] { return exchange_.input.room() >= count; });
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
    for (uint32_t input = 0; input < kInputs; ++input)
        for (uint32_t channel = 0; channel < kChannels; ++channel)
            for (uint32_t i = 0; i < count; ++i)
                frames[i].inputs[input][channel] = inputs[input][channel] ? inputs[input][channel][offset + i] : 0.0f;
    exchange_.input.write(frames, count);
}

void Player::mix(const Block& block, uint32_t offset, uint32_t count) noexcept {
    const int64_t from = position_ - timing_.latency;
    float dry[kPiece][kChannels];
    delay_.read(from, dry_floor_, dry, count);
    if (wet_is_ours())
        exchange_.output.read(from, count, wet_);
    else
        std::fill_n(wet_.ports, count, uint8_t{0});

    const int64_t session_start = exchange_.session_start.load(std::memory_order_relaxed);
    const bool bypass = settings_.value(kBypass) != 0.0;
    uint64_t missing = 0, dry_samples = 0;
    for (uint32_t i = 0; i < count; ++i) {
        if (from + i < wet_floor_) {
            wet_.ports[i] = 0;
        } else if (wet_.ports[i] == 0) {
            ++dry_samples;
            missing += from + i >= session_start;
        }
    }
    if (missing) exchange_.underrun_samples.fetch_add(missing, std::memory_order_relaxed);
    if (!bypass) dry_ahead_ += dry_samples;
    if (hurried_ && dry_ahead_) exchange_.hurried_dry.store(dry_ahead_, std::memory_order_relaxed);

    mixer_.aim(settings_.value(kDryWet), settings_.value(kGain), bypass);
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
    wait_until([&] { return exchange_.changes.room() > 0; });
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
    if (!may_wait() || done()) return;
    const auto begin = Clock::now();
    auto since = begin;
    uint64_t seen = exchange_.progress.load(std::memory_order_acquire);
    while (!done()) {
        if (exchange_.hopeless.load(std::memory_order_acquire) == take_) break;
        if (withdrawable_ && !exchange_.offline.load(std::memory_order_relaxed)) break;
        if (hurried_ && exchange_.missed.load(std::memory_order_acquire)) break;
        exchange_.wake_worker();
        exchange_.wait_for_progress(seen, kLookMilliseconds);
        const uint64_t now = exchange_.progress.load(std::memory_order_acquire);
        if (now != seen) {
            seen = now;
            since = Clock::now();
        }
        const bool reached = exchange_.reached.load(std::memory_order_acquire);
        const auto patience = hurried_ ? kHurriedPatience : reached ? kProgressPatience : kConnectPatience;
        if (Clock::now() - since >= patience) {
            exchange_.hopeless.store(take_, std::memory_order_release);
            break;
        }
    }
    pace_.wait(Clock::now() - begin);
}

}  // namespace backline
