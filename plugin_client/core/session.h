// One session on the server: what it was opened with, what goes up, and what comes down into the output ring.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "exchange.h"
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
class Session {
  public:
    // Asks for the session; it is open once `ready`.
    Session(net::Connection& connection, Exchange& exchange, PackTexts& texts, const net::Pack& pack,
            const Wishes& wishes);

    bool ready() const { return ready_; }
    bool ended() const { return call_->ended(); }  // status() says why
    const net::Status& status() const { return call_->status(); }
    const Needs& needs() const { return needs_; }
    uint64_t late_samples() const { return late_samples_; }
    const std::string& pack() const { return wishes_.pack; }
    uint32_t max_block() const { return max_block_; }
    bool begun() const { return sequence_ > 0; }  // audio has been sent
    size_t sent_bytes() const;                    // of audio, that the system has taken
    bool congested() const;                       // what has been sent is not being taken: hold the next
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

  private:
    void take(net::Bytes bytes);
    void take_audio(const net::AudioBlock& block);
    void take_ledger(const net::Ledger& ledger);
    const net::PackParameter* parameter_of(uint32_t index) const;
    double sent(uint32_t index, double value) const;
    net::Open opening() const;

    Exchange& exchange_;
    PackTexts& texts_;
    const net::Pack pack_;
    const std::vector<net::PackParameter> slots_;
    const Wishes wishes_;
    NamedTexts sent_texts_;
    std::vector<float> pcm_;  // of the block that goes up
    bool ready_ = false;
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
