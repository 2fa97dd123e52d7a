// A client's connection to a gRPC server: HTTP/2 over one socket, with TLS or without, driven by whoever calls run().
//
// Threads: one at a time for a connection and all its calls. Nothing here blocks but run(), and that for as long as it
// is told to.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "address.h"
#include "messages.h"
#include "servers.h"

namespace backline::net {

constexpr const char* kListPacks = "/backline.v1.Backline/ListPacks";
constexpr const char* kAdvise = "/backline.v1.Backline/Advise";
constexpr const char* kGetPack = "/backline.v1.Backline/GetPack";
constexpr const char* kStream = "/backline.v1.Backline/Stream";

// gRPC's status codes, as far as this client makes them itself or acts on them.
enum Code : int {
    kOk = 0,
    kCancelled = 1,
    kUnknown = 2,
    kInvalidArgument = 3,
    kDeadlineExceeded = 4,
    kNotFound = 5,
    kPermissionDenied = 7,
    kResourceExhausted = 8,
    kFailedPrecondition = 9,
    kAborted = 10,
    kUnimplemented = 12,
    kInternal = 13,
    kUnavailable = 14,      // also: no connection, or it was lost
    kUnauthenticated = 16,  // also: no connection, since TLS or what is known of the server does not fit it
};

// How a call ended.
struct Status {
    int code = kOk;
    std::string message;  // for the user: what went wrong and what to do

    bool ok() const { return code == kOk; }
};

struct CallState;
struct ConnectionState;

// One call, unary or streaming. It may outlive its connection, with which it ends; its own `on_message` must not
// destroy it.
class Call {
  public:
    explicit Call(std::shared_ptr<CallState> state);  // by Connection::start
    ~Call();                                          // cancels the call where it has not ended
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

    // Queues a message; run() sends it as fast as the server takes it. Without effect once the call has ended.
    template <class Message>
    void send(const Message& message) {
        encode(message, begin_message());
        end_message();
    }
    void send_encoded(Bytes first, Bytes second);  // the same, of a message that lies in these two pieces
    void finish();          // after the last message
    void hear_nothing();    // from now on its `on_message` is not called any more; the call goes on
    size_t unsent() const;  // bytes that neither the system nor the server has taken yet

    bool ended() const;            // no message will come any more
    const Status& status() const;  // once it has ended

  private:
    Buffer& begin_message();
    void end_message();
    std::shared_ptr<CallState> state_;  // the connection has it too, until HTTP/2 is done with the stream
};

// What the patience of a connection is, in milliseconds.
struct Patience {
    int connect = 2000;  // until the server has answered as one that speaks HTTP/2
    int quiet = 1000;    // after so long without a byte from the server it is asked for a sign of life
    int silent = 4000;   // after so long it counts as gone
};

class Connection {
  public:
    // Begins to connect; calls may be started at once.
    explicit Connection(const Address& address, const Access& access = {}, const Patience& patience = {});
    ~Connection();  // ends its calls
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // `on_message` is called by run() with each whole message; the bytes are valid during the call only.
    // A call on a connection that is lost or shutting down has ended at once, with the reason.
    std::unique_ptr<Call> start(const char* method, std::function<void(Bytes)> on_message);

    // Sends and receives what can be, waiting up to `timeout_ms` for something to happen. Returns early when anything
    // has, or when `wake_fd` (-1: none) is readable; its reader is the caller.
    void run(int timeout_ms, int wake_fd = -1);

    bool connected() const;        // the server has answered, and the connection stands
    bool lost() const;             // for good: every call has ended; make another connection
    const Status& status() const;  // why it was lost

  private:
    std::unique_ptr<ConnectionState> state_;
};

// One unary call, waited for. Gives up with kDeadlineExceeded after `timeout_ms`, and with kCancelled within 20 ms
// after `wanted` has become false.
template <class Request, class Response>
Status ask(Connection& connection, const char* method, const Request& request, Response& response, int timeout_ms,
           const std::function<bool()>& wanted = nullptr) {
    bool readable = false;
    const auto call = connection.start(method, [&](Bytes bytes) { readable = decode(bytes, response = Response()); });
    call->send(request);
    call->finish();
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    while (!call->ended()) {
        if (wanted && !wanted()) return {kCancelled, "no longer wanted"};
        if (std::chrono::steady_clock::now() >= deadline)
            return {kDeadlineExceeded, "the server did not answer within " + std::to_string(timeout_ms) + " ms"};
        connection.run(20);
    }
    if (call->status().ok() && !readable) return {kInternal, "the server's answer is no message of this contract"};
    return call->status();
}

}  // namespace backline::net
