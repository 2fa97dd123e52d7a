// One session on the server: what it was opened with, what goes up, and what comes down into the output ring.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exchange.h"
#include "kept.h"
#include "net/connection.h"
#include "pack_texts.h"
#include "parameters.h"

namespace backline {

// What a session is opened with, as the user has set it; a pack may allow less.
struct Wishes {
    std::string pack;
    double values[kParameterCount];
    Timing timing;
    bool offline = false;
    uint64_t seed = 0;
    NamedTexts texts;
};

// The latency that a ledger announces, told apart.
struct Needs {
    double seconds = 0.0;          // between input and the output that belongs under it
    double compute_seconds = 0.0;  // of a chunk
    double answer_seconds = 0.0;   // the part of it from the newest input that a chunk hears on
    double least_seconds = 0.0;    // as `seconds`, but of a server that takes no time: what waiting cannot mend
};

// Everything here is the worker's.
//
// A server that grants a lease keeps the session for so long after its call has broken off. Then it is detached: what
// there is to say is kept, and said on the call that resume() makes, where the server says how much of it is news.
class Session {
  public:
    Session(Exchange& exchange, PackTexts& texts, const net::Pack& pack, const Wishes& wishes);

    // Asks for the session, with the advised chunk and visibility where there are any; it is open once `ready`.
    void open(net::Connection& connection, const std::optional<net::Advice>& advice);
    net::Open opening() const;  // what it asks for

    bool opened() const { return opened_; }  // has been ready once
    bool ready() const { return ready_; }    // on the call at hand
    bool ended() const { return !call_ || call_->ended(); }  // the call, that is; status() says why
    const net::Status& status() const { return call_ ? call_->status() : broken_off_; }
    const Needs& needs() const { return needs_; }
    uint64_t late_samples() const { return late_samples_; }
    const net::Pack& pack() const { return pack_; }
    uint32_t max_block() const { return max_block_; }
    bool begun() const { return sequence_ > 0; }  // audio has been sent
    size_t sent_bytes() const;                    // of audio, that the system has taken
    bool congested() const;                       // what has been sent is not being taken: hold the next
    double waiting_seconds() const;               // of audio, that the server has not taken
    bool fixes(uint32_t index) const;             // the pack takes this parameter only when a session opens

    // When ready. Audio of up to max_block() samples; none sets the session's start.
    void send_audio(int64_t position, const Frame* frames, uint32_t count);
    void send_transport(int64_t position, const Transport& transport);
    void send_midi(int64_t position, const uint8_t* data, size_t size);
    // Nothing is sent where the pack has none like this, or fixes it.
    void send_parameter(int64_t position, uint32_t index, double value);
    // Those that the pack has and that are not what was sent last; without a position as soon as possible.
    void send_texts(const NamedTexts& texts, std::optional<int64_t> position = std::nullopt);
    void finish();  // the input ends here; what is still due comes before ended()
    void go_on();   // sends what waits, as far as it is taken

    // ---- over several calls

    double lease_seconds() const { return lease_seconds_; }  // 0: it ends with its call
    bool resumable() const;  // its call has broken off, and the server keeps it
    void break_off();        // the call at hand is no good
    void resume(net::Connection& connection);  // on another call: taken up again once `ready`
    int64_t behind(int64_t present) const { return present - input_position_; }  // samples that the server has not got
    int64_t patience() const { return patience_; }  // samples that it may be behind, and nothing comes too late
    // When ready again, one of the two. Says again what the server has not got; false where that is not there any more.
    bool repeat();
    // Leaves that out. Another take begins at the present, or a little before: at this position at the earliest.
    int64_t start_over();
    void begin_take(int64_t position);  // the rest is to be told to it, as to a session that has just been opened
    // Ends it: a server that would keep it is told, by the call returned, which lives on until it ends. Else null.
    std::unique_ptr<net::Call> leave();

  private:
    using Clock = std::chrono::steady_clock;

    void say(const net::ClientMessage& message);
    void take(net::Bytes bytes);
    void take_ready(const net::Ready& ready);
    void acknowledge(bool at_once);
    void take_audio(const net::AudioBlock& block);
    void take_ledger(const net::Ledger& ledger);
    const net::PackParameter* parameter_of(uint32_t index) const;
    double sent(uint32_t index, double value) const;
    size_t frame_bytes() const;  // of what goes up

    Exchange& exchange_;
    PackTexts& texts_;
    const net::Pack pack_;
    const std::vector<net::PackParameter> slots_;
    const Wishes wishes_;
    std::optional<net::Advice> advice_;
    NamedTexts sent_texts_;
    std::vector<float> pcm_;  // of the block that goes up
    net::Buffer message_;     // that goes up
    std::unique_ptr<Kept> kept_;  // with a lease, what has been said
    bool opened_ = false, ready_ = false, closed_ = false;
    bool linked_ = false;  // the call at hand takes what is said: it is known from where on
    std::string token_;
    double lease_seconds_ = 0.0;
    uint64_t received_ = 0;       // messages of the session
    uint64_t server_has_ = 0;     // messages of ours, when it was taken up again
    int64_t input_position_ = 0;  // of the first sample that the server had not got then
    int64_t patience_ = 0;
    Clock::time_point acknowledged_;
    net::Status broken_off_{net::kUnavailable, "the server has fallen behind"};
    Needs needs_;
    double chunk_seconds_ = 0.0, visibility_seconds_ = 0.0;  // as granted
    uint32_t max_block_ = 0;
    uint64_t sequence_ = 0;
    uint64_t audio_bytes_ = 0;
    uint64_t late_samples_ = 0;
    uint64_t late_at_server_ = 0;
    std::vector<uint32_t> channels_;  // of each port
    std::vector<PortAudio> block_;    // ports of the block that is coming in
    int64_t block_position_ = 0;
    uint32_t block_samples_ = 0;
    size_t block_ports_ = 0;  // of them that have come
    std::unique_ptr<net::Call> call_;
};

}  // namespace backline
