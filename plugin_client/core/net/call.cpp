// Calls: gRPC's framing and status.
#include <algorithm>
#include <cstring>
#include <exception>

#include "call_state.h"

namespace backline::net {

namespace {

constexpr int kLastCode = 16;
constexpr size_t kCompactAt = 256 << 10;  // bytes of taken messages that are worth moving the rest for

int hex(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

// What is no escape stays as it is, as gRPC wants it.
std::string percent_decoded(const std::string& text) {
    std::string decoded;
    for (size_t index = 0; index < text.size(); ++index) {
        const bool whole = text[index] == '%' && index + 2 < text.size();
        const int high = whole ? hex(text[index + 1]) : -1;
        const int low = whole ? hex(text[index + 2]) : -1;
        if (high < 0 || low < 0) {
            decoded += text[index];
            continue;
        }
        decoded += static_cast<char>(high * 16 + low);
        index += 2;
    }
    return decoded;
}

int parse_code(const std::string& text) {
    if (text.empty() || text.size() > 2 || text.find_first_not_of("0123456789") != std::string::npos) return kUnknown;
    const int code = std::stoi(text);
    return code <= kLastCode ? code : kUnknown;
}

int code_of_http2(uint32_t error) {
    switch (error) {
        case NGHTTP2_REFUSED_STREAM:
            return kUnavailable;
        case NGHTTP2_CANCEL:
            return kCancelled;
        case NGHTTP2_ENHANCE_YOUR_CALM:
            return kResourceExhausted;
        default:
            return kInternal;
    }
}

}  // namespace

void CallState::header(const std::string& name, const std::string& value) {
    if (name == ":status")
        http_status = value;
    else if (name == "content-type")
        content_type = value;
    else if (name == "grpc-status")
        grpc_status = parse_code(value);
    else if (name == "grpc-message")
        grpc_message = percent_decoded(value);
}

// What goes wrong with a message, here or with whoever it is for, ends its call and nothing else: behind us are
// HTTP/2's C functions, and behind them a thread of the host's process.
bool CallState::receive(Bytes bytes) {
    try {
        return read(bytes);
    } catch (const std::exception& error) {
        end({kInternal, std::string("an answer of the server could not be handled (") + error.what() + ")"});
        return false;
    }
}

bool CallState::read(Bytes bytes) {
    while (!ended) {
        // A message that lies in `bytes` as a whole is read from there, without a copy.
        const bool direct = incoming.empty();
        const Bytes seen = direct ? bytes : Bytes{incoming.data(), incoming.size()};
        size_t wanted = kPrefix;
        if (seen.size >= kPrefix) {
            size_t length = 0;
            for (size_t byte = 1; byte < kPrefix; ++byte) length = length << 8 | seen.data[byte];
            if (seen.data[0] != 0 || length > kMaximumMessage) {
                end({kInternal, "the server sent what is compressed or exceeds 64 MiB: is it a Backline server?"});
                return false;
            }
            wanted += length;
            if (seen.size >= wanted) {
                on_message({seen.data + kPrefix, length});
                if (direct)
                    bytes = {bytes.data + wanted, bytes.size - wanted};
                else
                    incoming.clear();
                continue;
            }
        }
        if (bytes.size == 0) return true;
        const size_t count = std::min(wanted - incoming.size(), bytes.size);
        incoming.insert(incoming.end(), bytes.data, bytes.data + count);
        bytes = {bytes.data + count, bytes.size - count};
    }
    return true;
}

void CallState::conclude(uint32_t http2_error) {
    if (grpc_status && (*grpc_status != kOk || incoming.empty()))
        end({*grpc_status, grpc_message});
    else if (!http_status.empty() && (http_status != "200" || content_type.rfind("application/grpc", 0) != 0))
        end({kUnavailable, "the server answered with HTTP status " + http_status + " and content of type \"" +
                               content_type + "\": is it a Backline server?"});
    else
        end({code_of_http2(http2_error),
             std::string("the server broke the call off (") + nghttp2_http2_strerror(http2_error) + ")"});
}

void CallState::end(const Status& reason) {
    if (ended) return;
    ended = true;
    status = reason;
    outgoing.clear();
    taken = 0;
}

size_t CallState::take(uint8_t* target, size_t size) {
    const size_t count = std::min(size, unsent());
    if (count > 0) std::memcpy(target, outgoing.data() + taken, count);
    taken += count;
    return count;
}

void CallState::resume() const {
    if (session != nullptr) nghttp2_session_resume_data(session, stream);
}

Call::Call(std::shared_ptr<CallState> state) : state_(std::move(state)) {}

Call::~Call() {
    if (state_->ended) return;
    state_->end({kCancelled, "cancelled by this client"});
    if (state_->session != nullptr)
        nghttp2_submit_rst_stream(state_->session, NGHTTP2_FLAG_NONE, state_->stream, NGHTTP2_CANCEL);
}

void Call::send_encoded(Bytes first, Bytes second) {
    Buffer& out = begin_message();
    out.insert(out.end(), first.data, first.data + first.size);
    out.insert(out.end(), second.data, second.data + second.size);
    end_message();
}

void Call::hear_nothing() {
    state_->on_message = [](Bytes) {};
}

void Call::finish() {
    state_->finished = true;
    state_->resume();
}

size_t Call::unsent() const {
    return state_->unsent();
}

bool Call::ended() const {
    return state_->ended;
}

const Status& Call::status() const {
    return state_->status;
}

Buffer& Call::begin_message() {
    Buffer& out = state_->outgoing;
    if (state_->unsent() == 0 || state_->taken >= kCompactAt) {
        out.erase(out.begin(), out.begin() + static_cast<ptrdiff_t>(state_->taken));
        state_->taken = 0;
    }
    state_->message_start = out.size();
    out.resize(out.size() + kPrefix);
    return out;
}

void Call::end_message() {
    Buffer& out = state_->outgoing;
    if (state_->ended) {
        out.clear();
        return;
    }
    uint8_t* prefix = out.data() + state_->message_start;
    const size_t length = out.size() - state_->message_start - kPrefix;
    prefix[0] = 0;  // not compressed
    for (unsigned byte = 0; byte < 4; ++byte) prefix[1 + byte] = static_cast<uint8_t>(length >> (24 - 8 * byte));
    state_->resume();
}

}  // namespace backline::net
