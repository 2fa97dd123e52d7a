// Between the wire's messages and the rings.
#include "session.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace backline {
namespace {

constexpr double kLiveVisibility = -1.0;  // seconds: live mode plays what belongs to now, from what was heard till then
constexpr uint32_t kLargestBlock = 8192;  // samples
constexpr size_t kUnsentBytes = 64 << 10;

const net::PackParameter* find(const net::Pack& pack, const char* name) {
    const auto found = std::find_if(pack.parameters.begin(), pack.parameters.end(),
                                    [&](const net::PackParameter& parameter) { return parameter.name == name; });
    return found == pack.parameters.end() ? nullptr : &*found;
}

}  // namespace

const char* Session::wire_name(uint32_t index) {
    switch (index) {
        case kGuidance:
            return "guidance";
        case kTemperature:
            return "temperature";
        case kKey:
            return "key";
        default:
            return nullptr;
    }
}

Session::Session(net::Connection& connection, Exchange& exchange, const net::Pack& pack, const Wishes& wishes)
    : exchange_(exchange),
      pack_(pack),
      wishes_(wishes),
      call_(connection.start(net::kStream, [this](net::Bytes bytes) { take(bytes); })) {
    net::ClientMessage message;
    message.open = opening();
    call_->send(message);
}

net::Open Session::opening() const {
    const Activation& activation = exchange_.activation;
    net::Open open;
    open.pack = wishes_.pack;
    open.sample_rate = static_cast<uint32_t>(std::lround(activation.sample_rate));
    open.channels = kChannels;
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
    open.seed = wishes_.seed;
    for (uint32_t index = 0; index < kParameterCount; ++index) {
        const char* name = wire_name(index);
        if (const net::PackParameter* parameter = name ? find(pack_, name) : nullptr)
            open.parameters[name] = allowed(*parameter, wishes_.values[index]);
    }
    return open;
}

bool Session::congested() const {
    return call_->unsent() > kUnsentBytes;
}

size_t Session::sent_bytes() const {
    return audio_bytes_ - std::min<size_t>(audio_bytes_, call_->unsent());
}

bool Session::fixes(uint32_t index) const {
    const char* name = wire_name(index);
    const net::PackParameter* parameter = name ? find(pack_, name) : nullptr;
    return parameter && !parameter->automatable;
}

void Session::send_audio(int64_t position, const Frame* frames, uint32_t count) {
    static_assert(sizeof(Frame) == kChannels * sizeof(float), "frames are interleaved samples");
    net::ClientMessage message;
    message.audio.emplace();
    message.audio->sequence = sequence_++;
    message.audio->position = position;
    message.audio->pcm = {reinterpret_cast<const uint8_t*>(frames), count * sizeof(Frame)};
    audio_bytes_ += message.audio->pcm.size;
    call_->send(message);
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
    call_->send(message);
}

void Session::send_midi(int64_t position, const uint8_t* data, size_t size) {
    net::ClientMessage message;
    message.midi.emplace();
    message.midi->position = position;
    message.midi->data = {data, size};
    call_->send(message);
}

void Session::send_parameter(int64_t position, uint32_t index, double value) {
    const char* name = wire_name(index);
    const net::PackParameter* parameter = name ? find(pack_, name) : nullptr;
    if (!parameter || !parameter->automatable) return;
    net::ClientMessage message;
    message.control.emplace();
    message.control->parameter = name;
    message.control->value = allowed(*parameter, value);
    message.control->position = position;
    call_->send(message);
}

void Session::finish() {
    net::ClientMessage message;
    message.close.emplace();
    call_->send(message);
    call_->finish();
}

double Session::allowed(const net::PackParameter& parameter, double value) const {
    value = std::min(std::max(value, parameter.minimum), parameter.maximum);
    return parameter.integer ? std::round(value) : value;
}

// ---- what comes down -------------------------------------------------------------------------------------------

void Session::take(net::Bytes bytes) {
    net::ServerMessage message;
    if (!net::decode(bytes, message)) return;  // from a newer server: nothing that we have asked for
    if (message.ready) {
        const net::Ready& ready = *message.ready;
        chunk_seconds_ = ready.chunk_seconds;
        visibility_seconds_ = ready.visibility_seconds;
        max_block_ = ready.max_block ? ready.max_block : kPiece;
        for (const net::OutputPort& port : ready.ports) channels_.push_back(std::max(1u, port.channels));
        block_.resize(channels_.size());
        take_ledger(ready.ledger);
        ready_ = true;
    }
    if (message.ledger) take_ledger(*message.ledger);
    if (message.warning && message.warning->code == "late_output") {
        late_samples_ += message.warning->count - late_at_server_;
        late_at_server_ = message.warning->count;
    }
    if (message.audio && ready_) take_audio(*message.audio);
    exchange_.announce_progress();
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
    const bool ahead = wishes_.timing.latency == 0;
    const double heard = ahead              ? visibility_seconds_ + kPiece / exchange_.activation.sample_rate
                         : wishes_.offline ? std::max(visibility_seconds_, chunk_seconds_)
                                           : visibility_seconds_;
    needs_.least_seconds = heard + front_end + codec;
}

}  // namespace backline
