// The messages of protos/backline/v1/backline.proto that a plugin sends or reads, as plain data.
//
// Names and meanings are the contract's; what a message has beyond these fields is skipped when read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace backline::net {

using Buffer = std::vector<uint8_t>;

// A view of someone else's bytes: of the buffer that a message was decoded from, or of what is to be encoded.
struct Bytes {
    const uint8_t* data = nullptr;
    size_t size = 0;
};

enum class Mode : int32_t { unspecified = 0, live = 1, offline = 2 };
enum class OnJump : int32_t { unspecified = 0, play_on = 1, new_take = 2 };
enum class ChannelLayout : int32_t { unspecified = 0, stereo = 3 };  // of the contract's, what a plugin has
enum class PackState : int32_t { unspecified = 0, available = 1, resident = 2, damaged = 3 };

// ---- client to server ------------------------------------------------------------------------------------------

// Channels of a session that belong together: one of a pack's inputs.
struct InputGroup {
    std::string name;
    uint32_t channels = 0;
};

struct Open {
    std::string pack;
    uint32_t sample_rate = 0;
    uint32_t channels = 0;
    uint32_t block_size = 0;
    Mode mode = Mode::unspecified;
    std::optional<double> visibility_seconds;
    std::optional<double> chunk_seconds;
    std::optional<uint64_t> seed;
    std::map<std::string, double> parameters;
    OnJump on_jump = OnJump::unspecified;
    std::string client_name;
    std::optional<double> jitter_buffer_seconds;
    ChannelLayout channel_layout = ChannelLayout::unspecified;
    std::map<std::string, std::string> texts;
    std::vector<InputGroup> inputs;
    double lease_seconds = 0.0;
};

struct Resume {
    std::string token;
    std::optional<uint64_t> received;
};

struct Ack {
    uint64_t received = 0;
};

// Both directions. `pcm` is little-endian float32, interleaved, and need not be aligned.
struct AudioBlock {
    uint64_t sequence = 0;
    int64_t position = 0;
    Bytes pcm;
    uint32_t port = 0;
    int64_t committed = 0;
};

struct Control {
    std::string parameter;
    double value = 0.0;
    std::optional<int64_t> position;
};

// Both directions.
struct Text {
    std::string name;
    std::string text;
    std::optional<int64_t> position;
};

struct TransportMessage {
    int64_t position = 0;
    bool playing = false;
    double tempo = 0.0;
    uint32_t numerator = 0;
    uint32_t denominator = 0;
    double song_position = 0.0;
    double bar_start = 0.0;
    bool looping = false;
    double loop_start = 0.0;
    double loop_end = 0.0;
};

struct Midi {
    int64_t position = 0;
    Bytes data;
};

// Both directions.
struct Take {
    int64_t position = 0;
    std::optional<int64_t> heard_from;
    bool skipped = false;
};

struct Close {
    bool discard = false;
};

// Exactly one of them.
struct ClientMessage {
    std::optional<Open> open;
    std::optional<Resume> resume;
    std::optional<AudioBlock> audio;
    std::optional<Control> control;
    std::optional<TransportMessage> transport;
    std::optional<Midi> midi;
    std::optional<Close> close;
    std::optional<Text> text;
    std::optional<Ack> ack;
    std::optional<Take> take;
};

// ---- server to client ------------------------------------------------------------------------------------------

struct OutputPort {
    std::string name;
    uint32_t channels = 0;
    std::string description;
};

struct LedgerItem {
    std::string name;
    double seconds = 0.0;
    bool measured = false;
    std::string explanation;
};

struct Ledger {
    std::vector<LedgerItem> items;
    double total_seconds = 0.0;
    int64_t latency_samples = 0;
};

struct Ready {
    std::string session;
    std::string token;
    uint64_t seed = 0;
    std::vector<OutputPort> ports;
    Ledger ledger;
    double chunk_seconds = 0.0;
    double visibility_seconds = 0.0;
    std::map<std::string, double> parameters;
    uint32_t max_block = 0;
    std::map<std::string, std::string> texts;
    double lease_seconds = 0.0;
    uint64_t received = 0;
    uint64_t sent = 0;
    std::optional<int64_t> input_position;
};

// There is no output for these positions.
struct Dry {
    int64_t position = 0;
    int64_t samples = 0;
};

struct Warning {
    std::string code;
    std::string message;
    uint64_t count = 0;
    int64_t position = 0;
};

struct Error {
    uint32_t status = 0;
    std::string message;
};

struct Closed {
    int64_t samples_in = 0;
    int64_t samples_out = 0;
    uint64_t chunks = 0;
    uint64_t late_chunks = 0;
    double compute_seconds = 0.0;
};

// At most one of them; none where the server sent what a plugin has no use for.
struct ServerMessage {
    std::optional<Ready> ready;
    std::optional<AudioBlock> audio;
    std::optional<Ledger> ledger;
    std::optional<Warning> warning;
    std::optional<Error> error;
    std::optional<Closed> closed;
    std::optional<Text> text;
    std::optional<Dry> dry;
    std::optional<Take> take;
};

// ---- packs -----------------------------------------------------------------------------------------------------

struct PackParameter {
    std::string name;
    double default_value = 0.0;
    double minimum = 0.0;
    double maximum = 0.0;
    std::string unit;
    std::string description;
    bool integer = false;
    bool automatable = false;
    std::vector<std::string> labels;  // of its whole values, from `minimum` on
};

struct PackText {
    std::string name;
    std::string default_value;
    std::string description;
    std::vector<std::string> suggestions;
};

struct PackInput {
    std::string name;
    uint32_t channels = 0;
    std::string description;
};

struct Codebook {
    std::string name;
};

// Names of what the pack has in it.
struct Task {
    std::string name;
    std::vector<std::string> inputs;
    std::vector<std::string> texts;
    std::vector<std::string> parameters;
};

struct Pack {
    std::string name;
    std::string version;
    std::string family;
    std::string description;
    PackState state = PackState::unspecified;
    std::string problem;
    uint32_t model_rate = 0;
    std::vector<OutputPort> ports;
    std::vector<PackParameter> parameters;
    double chunk_quantum_seconds = 0.0;
    double default_chunk_seconds = 0.0;
    double maximum_chunk_seconds = 0.0;
    double default_visibility_seconds = 0.0;
    double minimum_visibility_seconds = 0.0;
    double lookahead_seconds = 0.0;
    std::vector<std::string> metres;  // such as "4/4"
    std::vector<PackInput> inputs;    // none: one of no name
    std::vector<PackText> texts;
    bool takes_notes = false;         // MIDI
    std::vector<Codebook> takes;      // of codec frames that a session must be sent
    std::vector<Task> tasks;          // none: it does all there is
};

struct ListPacksRequest {};

struct ListPacksResponse {
    std::vector<Pack> packs;
};

struct GetPackRequest {
    std::string name;
};

struct AdviseRequest {
    Open open;
    double round_trip_seconds = 0.0;
    double latency_seconds = 0.0;
    double tempo = 0.0;  // quarter notes per minute; 0: none
};

enum class Verdict { unspecified, safe, tight, infeasible };

struct Advice {
    Verdict verdict = Verdict::unspecified;
    double chunk_seconds = 0.0;
    double visibility_seconds = 0.0;
    double latency_seconds = 0.0;
    std::string reason;
};

// ---- bytes -----------------------------------------------------------------------------------------------------

// Appends the message to `out`.
void encode(const ClientMessage& message, Buffer& out);
void encode(const ListPacksRequest& message, Buffer& out);
void encode(const GetPackRequest& message, Buffer& out);
void encode(const AdviseRequest& message, Buffer& out);

// False where the bytes are no such message; then `message` is of no use. Views in it are of `bytes`.
bool decode(Bytes bytes, ServerMessage& message);
bool decode(Bytes bytes, ListPacksResponse& message);
bool decode(Bytes bytes, Pack& message);
bool decode(Bytes bytes, Advice& message);

}  // namespace backline::net
