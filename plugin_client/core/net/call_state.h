// gRPC's side of one HTTP/2 stream: messages in and out of its bytes, and the status at its end.
#pragma once

#include <nghttp2/nghttp2.h>

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "connection.h"

namespace backline::net {

constexpr size_t kPrefix = 5;                   // before each message: a flag for compression, and the length
constexpr size_t kMaximumMessage = 64u << 20u;  // as the server's own limit

struct CallState {
    explicit CallState(std::function<void(Bytes)> receiver) : on_message(std::move(receiver)) {}

    // What the server's header fields, first or last, have said.
    void header(const std::string& name, const std::string& value);
    // Passes whole messages on. False where the call has failed because of these bytes.
    bool receive(Bytes bytes);
    bool read(Bytes bytes);
    // The server has ended the stream: with a status, or without one for HTTP/2's reason.
    void conclude(uint32_t http2_error);
    void end(const Status& reason);  // the first one holds
    // Moves up to `size` bytes of the messages to `target`.
    size_t take(uint8_t* target, size_t size);
    size_t unsent() const { return outgoing.size() - taken; }
    void resume() const;  // has HTTP/2 ask for bytes again

    std::function<void(Bytes)> on_message;
    nghttp2_session* session = nullptr;  // null once HTTP/2 is done with the stream
    int32_t stream = 0;

    Buffer outgoing;
    size_t taken = 0;          // bytes of `outgoing` that HTTP/2 has
    size_t message_start = 0;  // in `outgoing`, of the message being written
    bool finished = false;     // nothing will be added

    Buffer incoming;  // of a message that has not come whole
    std::string http_status;
    std::string content_type;
    std::optional<int> grpc_status;
    std::string grpc_message;

    bool ended = false;
    Status status;
};

}  // namespace backline::net
