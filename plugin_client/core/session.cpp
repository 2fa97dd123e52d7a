// Between the wire's messages and the rings.
#include "session.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "slots.h"

namespace backline {
namespace {

constexpr double kLiveVisibility = -1.0;  // seconds: live mode plays what belongs to now, from what was heard till then
constexpr uint32_t kLargestBlock = 8192;  // samples
constexpr size_t kUnsentBytes = 64 << 10;
constexpr double kLease = 30.0;           // seconds that a server is asked to keep a session whose call has broken off
constexpr double kKeptSeconds = 10.0;     // of what has been said, beyond the latency; more than any way holds
constexpr double kOverhead = 1.2;         // of a message over its audio, in the smallest blocks that are usual
constexpr std::chrono::milliseconds kAcknowledge{500};

// Of the pack's inputs, those that we have an input for.
uint32_t inputs_of(const net::Pack& pack) {
    return std::clamp<uint32_t>(static_cast<uint32_t>(pack.inputs.size()), 1, kInputs);
}

}  // namespace

Session::Session(Exchange& exchange, PackTexts& texts, const net::Pack& pack, const Wishes& wishes)
    : exchange_(exchange),
      texts_(texts),
      pack_(pack),
      slots_(slots_of(pack)),
      wishes_(wishes) {
    exchange_.inputs = inputs_of(pack);
}

void Session::open(net::Connection& connection, const std::optional<net::Advice>& advice) {
    advice_ = advice;
    call_ = connection.start(net::kStream, [this](net::Bytes bytes) { take(bytes); });
    net::ClientMessage message;
    message.open = opening();
    sent_texts_ = message.open->texts;
    call_->send(message);
}

net::Open Session::opening() const {
    const Activation& activation = exchange_.activation;
    net::Open open;
    open.pack = wishes_.pack;
    open.sample_rate = static_cast<uint32_t>(std::lround(activation.sample_rate));
    const uint32_t inputs = inputs_of(pack_);
    open.channels = inputs * kChannels;
    if (inputs == 1) open.channel_layout = net::ChannelLayout::stereo;
    for (uint32_t input = 0; inputs > 1 && input < inputs; ++input)
        open.inputs.push_back({pack_.inputs[input].name, kChannels});
    open.block_size = std::clamp<uint32_t>(activation.max_frames, kPiece, kLargestBlock);
    // Without latency the output must run ahead of the input, which an offline session's never does; a live one is
    // just as repeatable as long as nobody hurries it.
    open.mode = wishes_.offline && wishes_.timing.latency > 0 ? net::Mode::offline : net::Mode::live;
    open.client_name = "Backline plugin";
    // What we hold back beyond the server's need; else it would drop as late what we can still play.
    open.jitter_buffer_seconds = wishes_.timing.latency / activation.sample_rate;

    double chunk = pack_.default_chunk_seconds;
    if (wishes_.values[kChunk] >= kShortestChunk && pack_.chunk_quantum_seconds > 0.0) {
        const double quantum = pack_.chunk_quantum_seconds;
        const double most = std::floor(pack_.maximum_chunk_seconds / quantum + 1e-6);
        chunk = std::clamp(std::round(wishes_.values[kChunk] / quantum), 1.0, std::max(1.0, most)) * quantum;
        open.chunk_seconds = chunk;
    }
    const bool given = wishes_.values[kVisibility] >= kLowestVisibility;
    if (given || wishes_.timing.live) {
        const double wanted = given ? wishes_.values[kVisibility] : kLiveVisibility;
        const double latest = chunk + pack_.lookahead_seconds;
        open.visibility_seconds = std::min(std::max(wanted, pack_.minimum_visibility_seconds), latest);
    }
    if (advice_) {
        open.chunk_seconds = advice_->chunk_seconds;
        open.visibility_seconds = advice_->visibility_seconds;
    }
    open.seed = wishes_.seed;
    open.lease_seconds = kLease;
    if (wishes_.values[kJump] != 0.0) open.on_jump = net::OnJump::new_take;
    for (uint32_t index = 0; index < kParameterCount; ++index)
        if (const net::PackParameter* parameter = parameter_of(index))
            open.parameters[parameter->name] = sent(index, wishes_.values[index]);
    for (const net::PackText& text : pack_.texts)
        if (const auto written = wishes_.texts.find(text.name); written != wishes_.texts.end())
            open.texts.insert(*written);
    return open;
}

// What the pack calls one of the plugin's parameters, and its range; null where it takes none like that.
const net::PackParameter* Session::parameter_of(uint32_t index) const {
    if (is_slot(index)) return index - kFirstSlot < slots_.size() ? &slots_[index - kFirstSlot] : nullptr;
    const char* name = wire_name(index);
    const auto found = std::find_if(pack_.parameters.begin(), pack_.parameters.end(),
                                    [&](const net::PackParameter& taken) { return name && taken.name == name; });
    return found == pack_.parameters.end() ? nullptr : &*found;
}

// The value as the pack allows it.
double Session::sent(uint32_t index, double value) const {
    const net::PackParameter& parameter = *parameter_of(index);
    if (is_slot(index)) return slot_to_plain(parameter, value);
    value = std::min(std::max(value, parameter.minimum), parameter.maximum);
    return parameter.integer ? std::round(value) : value;
}

bool Session::congested() const {
    return !linked_ || call_->unsent() > kUnsentBytes || (kept_ && kept_->waits());
}

double Session::waiting_seconds() const {
    const size_t bytes = (call_ ? call_->unsent() : 0) + (kept_ ? kept_->waiting_bytes() : 0);
    return static_cast<double>(bytes) / (exchange_.activation.sample_rate * frame_bytes());
}

size_t Session::frame_bytes() const {
    return size_t{inputs_of(pack_)} * kChannels * sizeof(float);
}

size_t Session::sent_bytes() const {
    return audio_bytes_ - std::min<size_t>(audio_bytes_, call_ ? call_->unsent() : 0);
}

bool Session::fixes(uint32_t index) const {
    const net::PackParameter* parameter = parameter_of(index);
    return parameter && !parameter->automatable;
}

void Session::send_audio(int64_t position, const Frame* frames, uint32_t count) {
    static_assert(sizeof(Frame) == kInputs * kChannels * sizeof(float), "frames are interleaved samples");
    const uint32_t channels = inputs_of(pack_) * kChannels;
    pcm_.resize(size_t{count} * channels);
    for (uint32_t i = 0; i < count; ++i) std::memcpy(&pcm_[size_t{i} * channels], &frames[i], channels * sizeof(float));
    net::ClientMessage message;
    message.audio.emplace();
    message.audio->sequence = sequence_++;
    message.audio->position = position;
    message.audio->pcm = {reinterpret_cast<const uint8_t*>(pcm_.data()), pcm_.size() * sizeof(float)};
    audio_bytes_ += message.audio->pcm.size;
    say(message);
}

void Session::send_transport(int64_t position, const Transport& transport) {
    net::ClientMessage message;
    message.transport.emplace();
    net::TransportMessage& out = *message.transport;
    out.position = position;
    out.playing = transport.playing;
    out.tempo = transport.tempo;
    out.numerator = transport.numerator;
    out.denominator = transport.denominator;
    out.song_position = transport.song_position;
    out.bar_start = transport.bar_start;
    out.looping = transport.looping;
    out.loop_start = transport.loop_start;
    out.loop_end = transport.loop_end;
    say(message);
}

void Session::send_midi(int64_t position, const uint8_t* data, size_t size) {
    net::ClientMessage message;
    message.midi.emplace();
    message.midi->position = position;
    message.midi->data = {data, size};
    say(message);
}

void Session::send_parameter(int64_t position, uint32_t index, double value) {
    const net::PackParameter* parameter = parameter_of(index);
    if (!parameter || !parameter->automatable) return;
    net::ClientMessage message;
    message.control.emplace();
    message.control->parameter = parameter->name;
    message.control->value = sent(index, value);
    message.control->position = position;
    say(message);
}

void Session::send_texts(const NamedTexts& texts, std::optional<int64_t> position) {
    for (const net::PackText& text : pack_.texts) {
        const auto written = texts.find(text.name);
        const auto last = sent_texts_.find(text.name);
        if (written == texts.end() || (last != sent_texts_.end() && last->second == written->second)) continue;
        net::ClientMessage message;
        message.text.emplace();
        message.text->name = text.name;
        message.text->text = sent_texts_[text.name] = written->second;
        message.text->position = position;
        say(message);
    }
}

void Session::finish() {
    net::ClientMessage message;
    message.close.emplace();
    say(message);
    if (!kept_) call_->finish();  // else the other half stays open, for what is acknowledged
}

void Session::say(const net::ClientMessage& message) {
    if (!kept_) return call_->send(message);
    message_.clear();
    net::encode(message, message_);
    kept_->add(message_);
    go_on();
}

void Session::go_on() {
    while (kept_ && linked_ && kept_->waits() && !call_->ended() && call_->unsent() <= kUnsentBytes)
        kept_->pass_on(*call_);
}

// ---- over several calls ----------------------------------------------------------------------------------------

// How a call ends that has been cut, wherever that was; a server ends one with other words.
bool Session::resumable() const {
    if (!kept_ || closed_ || !ended()) return false;
    const int code = status().code;
    return code == net::kUnavailable || code == net::kCancelled || code == net::kUnknown || code == net::kInternal;
}

void Session::break_off() {
    ready_ = linked_ = false;
    call_.reset();
}

void Session::resume(net::Connection& connection) {
    ready_ = linked_ = false;
    audio_bytes_ = 0;
    call_ = connection.start(net::kStream, [this](net::Bytes bytes) { take(bytes); });
    net::ClientMessage message;
    message.resume = {token_, received_};
    call_->send(message);
}

bool Session::repeat() {
    if (!kept_->go_back(server_has_)) return false;
    linked_ = true;
    go_on();
    return true;
}

int64_t Session::start_over() {
    kept_->start_over(server_has_);
    sent_texts_.clear();
    linked_ = true;
    return input_position_;
}

void Session::begin_take(int64_t position) {
    net::ClientMessage message;
    message.take.emplace();
    message.take->position = position;
    message.take->skipped = true;
    say(message);
}

std::unique_ptr<net::Call> Session::leave() {
    if (!kept_ || !ready_ || closed_ || call_->ended()) return nullptr;
    call_->hear_nothing();
    net::ClientMessage message;
    message.close.emplace().discard = true;
    call_->send(message);
    call_->finish();
    return std::move(call_);
}

// ---- what comes down -------------------------------------------------------------------------------------------

void Session::take(net::Bytes bytes) {
    net::ServerMessage message;
    const bool known = net::decode(bytes, message);
    if (!message.ready && !message.error) ++received_;
    if (!known) return;  // from a newer server: nothing that we have asked for
    if (message.ready) take_ready(*message.ready);
    if (message.text) texts_.take_force(message.text->name, message.text->text, message.text->position);
    if (message.ledger) take_ledger(*message.ledger);
    if (message.warning && message.warning->code == "late_output") {
        late_samples_ += message.warning->count - late_at_server_;
        late_at_server_ = message.warning->count;
    }
    if (message.audio && ready_) take_audio(*message.audio);
    if (message.dry) exchange_.output.skip(message.dry->position + message.dry->samples);
    if (message.take && message.take->skipped) exchange_.output.skip(message.take->position);  // silence follows
    closed_ = closed_ || message.closed;
    acknowledge(message.closed.has_value());
    exchange_.announce_progress();
}

void Session::take_ready(const net::Ready& ready) {
    chunk_seconds_ = ready.chunk_seconds;
    visibility_seconds_ = ready.visibility_seconds;
    take_ledger(ready.ledger);
    ready_ = true;
    received_ = ready.sent;
    server_has_ = ready.received;
    input_position_ = ready.input_position.value_or(0);
    if (opened_) return;
    opened_ = linked_ = true;
    max_block_ = ready.max_block ? ready.max_block : kPiece;
    for (const net::OutputPort& port : ready.ports) channels_.push_back(std::max(1u, port.channels));
    block_.resize(channels_.size());
    texts_.begin(ready.texts);
    token_ = ready.token;
    if (!(ready.lease_seconds > 0.0) || token_.empty()) return;  // an old server's is 0
    lease_seconds_ = ready.lease_seconds;
    const double rate = exchange_.activation.sample_rate, seconds = kKeptSeconds + wishes_.timing.latency / rate;
    kept_ = std::make_unique<Kept>(static_cast<size_t>(seconds * rate * kOverhead * frame_bytes()));
}

// What has come for good, the server need not keep.
void Session::acknowledge(bool at_once) {
    const auto now = Clock::now();
    if (!kept_ || !ready_ || (!at_once && now - acknowledged_ < kAcknowledge)) return;
    acknowledged_ = now;
    net::ClientMessage message;
    message.ack = {received_};
    call_->send(message);
}

// The ports of a block come one after the other, all with the same position; together they go into the ring.
void Session::take_audio(const net::AudioBlock& block) {
    if (block.port >= channels_.size()) return;
    const uint32_t channels = channels_[block.port];
    const auto count = static_cast<uint32_t>(block.pcm.size / (sizeof(float) * channels));
    if (block.port == 0) {
        block_position_ = block.position;
        block_samples_ = count;
        block_ports_ = 0;
    }
    if (block.position != block_position_ || count != block_samples_) return;
    PortAudio& port = block_[block.port];
    for (uint32_t channel = 0; channel < kChannels; ++channel) {
        port.channels[channel].resize(count);
        const uint8_t* from = block.pcm.data + sizeof(float) * std::min(channel, channels - 1);
        for (uint32_t i = 0; i < count; ++i, from += sizeof(float) * channels)
            std::memcpy(&port.channels[channel][i], from, sizeof(float));
    }
    if (++block_ports_ < channels_.size()) return;

    const int64_t end = exchange_.output.end();
    late_samples_ += exchange_.output.write(block_position_, block_samples_, block_);
    // Wet is due from the first sample on that came in time.
    if (exchange_.output.end() > end && exchange_.session_start.load(std::memory_order_relaxed) == kNoSession)
        exchange_.session_start.store(std::max(block_position_, end), std::memory_order_relaxed);
}

void Session::take_ledger(const net::Ledger& ledger) {
    double need = 0.0, hearing = 0.0, front_end = 0.0, codec = 0.0;
    for (const net::LedgerItem& item : ledger.items) {
        if (item.name == "jitter_buffer") continue;  // that is our own latency
        need += item.seconds;
        if (item.name == "visibility") hearing = item.seconds;
        if (item.name == "compute") needs_.compute_seconds = item.seconds;
        if (item.name == "front_end") front_end = item.seconds;
        if (item.name == "codec") codec = item.seconds;
    }
    needs_.seconds = std::max(0.0, need);
    needs_.answer_seconds = std::max(0.0, need - hearing);
    // An offline session's chunk waits for its own end, too; one that plays ahead must have come before its piece.
    patience_ = std::max(ledger.latency_samples,
                         static_cast<int64_t>(std::ceil(chunk_seconds_ * exchange_.activation.sample_rate)));
    const bool ahead = wishes_.timing.latency == 0;
    const double heard = ahead              ? visibility_seconds_ + kPiece / exchange_.activation.sample_rate
                         : wishes_.offline ? std::max(visibility_seconds_, chunk_seconds_)
                                           : visibility_seconds_;
    needs_.least_seconds = heard + front_end + codec;
}

}  // namespace backline
