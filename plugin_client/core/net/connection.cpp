// One socket, TLS on it where that is wanted, and libnghttp2.
#include "connection.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <map>
#include <string_view>

#include "call_state.h"
#include "own_end.h"
#include "tls.h"

namespace backline::net {

namespace {

using Clock = std::chrono::steady_clock;

// What the server may send before we have read it: seconds of many channels, so that no window ever delays audio.
constexpr int32_t kWindow = 16 << 20;
constexpr size_t kReadAtOnce = 64 << 10;
constexpr int kReadsPerRun = 16;       // then it is the caller's turn again
constexpr int kLookMilliseconds = 10;  // between looks at whether a name is known

std::string reason(int error) {
    return std::string(" (") + std::strerror(error) + ")";
}

// The user who listens at the other end of a Unix socket; false where the system does not say.
bool listening_user(int fd, uid_t& user) {
#ifdef SO_PEERCRED
    ucred peer = {};
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
    user = peer.uid;
    return true;
#else
    gid_t group = 0;
    return getpeereid(fd, &user, &group) == 0;
#endif
}

}  // namespace

struct ConnectionState {
    ConnectionState(const Address& server, const Access& how, const Patience& how_long)
        : address(server), access(how), patience(how_long) {}
    ~ConnectionState() {
        hang_up();
        nghttp2_session_del(session);
    }
    ConnectionState(const ConnectionState&) = delete;
    ConnectionState& operator=(const ConnectionState&) = delete;

    Address address;
    Access access;
    Patience patience;
    Status status;                     // why it was lost
    std::unique_ptr<Lookup> lookup;    // while the host's name is looked up
    std::deque<SocketAddress> places;  // where the server may be, that have not been tried
    SocketAddress place;               // that is tried, or has been reached
    int fd = -1;
    std::unique_ptr<Tls> tls;
    bool greeting = false;  // by TLS
    bool probing = false;   // only whether TLS is spoken
    nghttp2_session* session = nullptr;
    std::map<int32_t, std::shared_ptr<CallState>> calls;  // by stream, until HTTP/2 is done with it
    bool connecting = true;                               // the socket is: nothing can be sent yet
    bool spoken = false;                                  // the server has, whatever it was
    bool answered = false;                                // with HTTP/2's settings
    bool leaving = false;                                 // the server takes no more calls
    bool lost = false;
    Clock::time_point begun = Clock::now();
    Clock::time_point heard = begun;         // when the newest byte came
    std::optional<Clock::time_point> asked;  // when a sign of life was asked for that has not come
    const uint8_t* unsent = nullptr;         // nghttp2's, until it is asked for more
    size_t unsent_size = 0;

    void begin();
    void finish_lookup();
    void connect();
    void finish_connecting();
    void go_on(const std::string& message);
    void check_user();
    void greet();
    void break_off(const std::string& message);
    void begin_session();
    void lose(const std::string& message, int code = kUnavailable);
    void hang_up();
    void send();
    void receive();
    void watch_time();
    Clock::time_point next_look() const;

    CallState* call(int32_t stream) {
        const auto found = calls.find(stream);
        return found == calls.end() ? nullptr : found->second.get();
    }
    void forget(int32_t stream) {
        if (CallState* gone = call(stream)) gone->session = nullptr;
        calls.erase(stream);
    }
    std::string server() const { return "the server at " + address.text; }
    std::string nobody() const { return "there is no server at " + address.text; }
    // Why no call can go on, where HTTP/2 itself has come to an end.
    std::string gone() const {
        return answered ? server() + " is shutting down"
                        : "what listens at " + address.text + " speaks no gRPC: is it a Backline server?";
    }
};

// ---- what nghttp2 calls ------------------------------------------------------------------------------------------

namespace {

ConnectionState& of(void* user) {
    return *static_cast<ConnectionState*>(user);
}

std::string text(const uint8_t* data, size_t size) {
    return {reinterpret_cast<const char*>(data), size};
}

ssize_t on_want_data(nghttp2_session*, int32_t stream, uint8_t* target, size_t size, uint32_t* flags,
                     nghttp2_data_source*, void* user) {
    CallState* call = of(user).call(stream);
    if (call == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const size_t count = call->take(target, size);
    if (call->finished && call->unsent() == 0)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    else if (count == 0)
        return NGHTTP2_ERR_DEFERRED;  // until resume()
    return static_cast<ssize_t>(count);
}

int on_header(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name, size_t name_size, const uint8_t* value,
              size_t value_size, uint8_t, void* user) {
    if (CallState* call = of(user).call(frame->hd.stream_id))
        call->header(text(name, name_size), text(value, value_size));
    return 0;
}

int on_data(nghttp2_session* session, uint8_t, int32_t stream, const uint8_t* data, size_t size, void* user) {
    CallState* call = of(user).call(stream);
    if (call != nullptr && call->http_status == "200" && !call->receive({data, size}))
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream, NGHTTP2_CANCEL);
    return 0;
}

int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    ConnectionState& connection = of(user);
    if (frame->hd.type == NGHTTP2_SETTINGS) connection.answered = true;
    if (frame->hd.type == NGHTTP2_GOAWAY) connection.leaving = true;
    const bool ends = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                      (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    CallState* call = ends ? connection.call(frame->hd.stream_id) : nullptr;
    if (call == nullptr) return 0;
    call->conclude(NGHTTP2_NO_ERROR);
    if (!call->finished)  // the server has said its last word: nothing that we have to say matters
        nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_CANCEL);
    return 0;
}

int on_close(nghttp2_session*, int32_t stream, uint32_t error, void* user) {
    if (CallState* call = of(user).call(stream)) call->conclude(error);
    of(user).forget(stream);
    return 0;
}

int on_not_sent(nghttp2_session*, const nghttp2_frame* frame, int, void* user) {
    ConnectionState& connection = of(user);
    CallState* call = frame->hd.type == NGHTTP2_HEADERS ? connection.call(frame->hd.stream_id) : nullptr;
    if (call == nullptr) return 0;
    call->end({kUnavailable, connection.gone()});
    connection.forget(frame->hd.stream_id);
    return 0;
}

nghttp2_nv field(std::string_view name, std::string_view value) {
    // nghttp2 copies both, and changes neither.
    return {reinterpret_cast<uint8_t*>(const_cast<char*>(name.data())),
            reinterpret_cast<uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(),
            NGHTTP2_NV_FLAG_NONE};
}

}  // namespace

// ---- the socket --------------------------------------------------------------------------------------------------

void ConnectionState::begin() {
    if (address.socket.size == 0) {
        lookup = std::make_unique<Lookup>(address.host, address.port);
    } else {
        places = {address.socket};
        connect();
    }
}

void ConnectionState::finish_lookup() {
    places.assign(lookup->found().begin(), lookup->found().end());
    if (places.empty())
        return lose("nobody knows " + address.host + " (" + lookup->problem() + "): is it written right?");
    lookup.reset();
    connect();
}

// To the next of the places.
void ConnectionState::connect() {
    begun = heard = Clock::now();
    place = places.front();
    places.pop_front();
    connecting = true;
    fd = ::socket(place.storage.ss_family, SOCK_STREAM, 0);
    if (fd < 0) return lose("no socket for " + address.text + reason(errno));
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    if (!address.local()) {
        const int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&place.storage), place.size) == 0) {
        if (address.local()) return connecting = false, check_user();
        finish_connecting();
    } else if (errno == EACCES && address.local()) {
        lose("the socket at " + address.text + " lets only its owner in" + reason(errno));
    } else if (errno != EINPROGRESS) {
        go_on(nobody() + reason(errno) + ": start it with `backline serve`");
    }
}

// Nobody is there, or says so: perhaps at the next place.
void ConnectionState::go_on(const std::string& message) {
    if (places.empty()) return lose(message);
    hang_up();
    connect();
}

// Whoever listens at a socket hears the singer: it must be this user or root, known before a byte is sent.
void ConnectionState::check_user() {
    uid_t user = 0;
    if (!listening_user(fd, user)) return lose("the system does not say whose socket " + address.text + " is");
    if (user == geteuid() || user == 0) return;
    lose("the socket at " + address.text + " is another user's (uid " + std::to_string(user) + "): nothing was sent");
}

void ConnectionState::finish_connecting() {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error != 0) return go_on(nobody() + reason(error) + ": start it with `backline serve`");
    if (is_own_end(fd)) return go_on(nobody() + ": start it with `backline serve`");
    connecting = false;
    if (!access.tls && !probing) return;
    greeting = true;
    tls = std::make_unique<Tls>(fd, address.host, probing ? nullptr : &access);
}

void ConnectionState::greet() {
    const Tls::Greeting now = tls->greet();
    if (now == Tls::Greeting::under_way) return;
    greeting = false;
    if (probing && tls->understood())
        return lose(server() + " speaks TLS only, and no sound was sent: write key and ca under [\"" + address.text +
                        "\"] into " + servers_file(),
                    kUnauthenticated);
    if (probing) return lose(gone());
    if (now == Tls::Greeting::failed) lose(tls->problem(server()), kUnauthenticated);
}

// The server has ended the connection. One that wants TLS does so without a word when it hears something else.
void ConnectionState::break_off(const std::string& message) {
    if (spoken || tls || address.local()) return lose(message);
    probing = true;
    places = {place};
    hang_up();
    connect();
}

void ConnectionState::begin_session() {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_frame_not_send_callback(callbacks, on_not_sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_client_new(&session, callbacks, this);
    nghttp2_session_callbacks_del(callbacks);
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kWindow}};
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, std::size(settings));
    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kWindow);
}

void ConnectionState::lose(const std::string& message, int code) {
    if (lost) return;
    lost = true;
    status = {code, message};
    for (auto& [stream, call] : calls) {
        call->session = nullptr;
        call->end(status);
    }
    calls.clear();
    lookup.reset();
    hang_up();
}

void ConnectionState::hang_up() {
    tls.reset();
    if (fd >= 0) close(fd);
    fd = -1;
}

void ConnectionState::send() {
    if (connecting || greeting) return;
    while (!lost) {
        if (unsent_size == 0) {
            const ssize_t size = nghttp2_session_mem_send(session, &unsent);
            if (size < 0) return lose("HTTP/2 failed (" + std::string(nghttp2_strerror(static_cast<int>(size))) + ")");
            if (size == 0) return;
            unsent_size = static_cast<size_t>(size);
        }
        const ssize_t sent = tls ? tls->send(unsent, unsent_size) : ::send(fd, unsent, unsent_size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (sent < 0) return break_off("the connection to " + server() + " was lost" + reason(errno));
        unsent += sent;
        unsent_size -= static_cast<size_t>(sent);
    }
}

void ConnectionState::receive() {
    std::array<uint8_t, kReadAtOnce> bytes;
    for (int reads = 0; reads < kReadsPerRun && !lost; ++reads) {
        const ssize_t size = tls ? tls->receive(bytes.data(), bytes.size()) : recv(fd, bytes.data(), bytes.size(), 0);
        if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
        if (size < 0) return break_off("the connection to " + server() + " was lost" + reason(errno));
        if (size == 0) return break_off(leaving || !answered ? gone() : server() + " has closed the connection");
        spoken = true;
        heard = Clock::now();
        asked.reset();
        const ssize_t used = nghttp2_session_mem_recv(session, bytes.data(), static_cast<size_t>(size));
        if (used < 0)
            return lose(server() + " broke HTTP/2's rules (" + nghttp2_strerror(static_cast<int>(used)) +
                        "): is it a Backline server?");
    }
}

// ---- time --------------------------------------------------------------------------------------------------------

Clock::time_point ConnectionState::next_look() const {
    using Milliseconds = std::chrono::milliseconds;
    if (!answered) return begun + Milliseconds(patience.connect);
    if (asked) return *asked + Milliseconds(patience.silent - patience.quiet);
    return heard + Milliseconds(patience.quiet);
}

void ConnectionState::watch_time() {
    const auto now = Clock::now();
    if (lost || now < next_look()) return;
    if (lookup) {
        lose("nobody has said within " + std::to_string(patience.connect) + " ms where " + address.host +
             " is: is it written right?");
    } else if (!answered) {
        const std::string message =
            server() + " did not answer within " + std::to_string(patience.connect) + " ms: is it a Backline server?";
        connecting ? go_on(message) : lose(message);
    } else if (asked) {
        lose(server() + " gave no sign of life for " + std::to_string(patience.silent) + " ms");
    } else {
        nghttp2_submit_ping(session, NGHTTP2_FLAG_NONE, nullptr);
        asked = now;
    }
}

// ---- the public side ---------------------------------------------------------------------------------------------

Connection::Connection(const Address& address, const Access& access, const Patience& patience)
    : state_(std::make_unique<ConnectionState>(address, access, patience)) {
    state_->begin_session();
    state_->begin();
}

Connection::~Connection() {
    if (!state_->lost && !state_->connecting && !state_->greeting) {  // a word of farewell, if it can be sent at once
        nghttp2_session_terminate_session(state_->session, NGHTTP2_NO_ERROR);
        state_->send();
    }
    state_->lose("this client has closed its connection");
}

std::unique_ptr<Call> Connection::start(const char* method, std::function<void(Bytes)> on_message) {
    auto call = std::make_shared<CallState>(std::move(on_message));
    if (state_->lost || state_->leaving) {
        call->end(state_->lost ? state_->status : Status{kUnavailable, state_->gone()});
        return std::make_unique<Call>(call);
    }
    const Access& access = state_->access;
    const std::string authority = state_->address.local() ? "localhost" : state_->address.text;
    const std::string shown = "Bearer " + access.key;
    std::vector<nghttp2_nv> fields = {field(":method", "POST"),
                                      field(":scheme", access.tls ? "https" : "http"),
                                      field(":path", method),
                                      field(":authority", authority),
                                      field("te", "trailers"),
                                      field("content-type", "application/grpc"),
                                      field("user-agent", "backline-plugin")};
    if (access.tls && !access.key.empty()) {
        fields.push_back(field("authorization", shown));
        fields.back().flags = NGHTTP2_NV_FLAG_NO_INDEX;  // no proxy keeps it
    }
    nghttp2_data_provider provider = {};
    provider.read_callback = on_want_data;
    call->stream = nghttp2_submit_request(state_->session, nullptr, fields.data(), fields.size(), &provider, nullptr);
    if (call->stream < 0) {
        call->end({kInternal, std::string("HTTP/2 failed (") + nghttp2_strerror(call->stream) + ")"});
    } else {
        call->session = state_->session;
        state_->calls[call->stream] = call;
    }
    return std::make_unique<Call>(call);
}

void Connection::run(int timeout_ms, int wake_fd) {
    ConnectionState& state = *state_;
    if (state.lookup && state.lookup->done()) state.finish_lookup();
    state.send();
    if (state.lost) return;
    const auto patience = std::chrono::ceil<std::chrono::milliseconds>(state.next_look() - Clock::now()).count();
    const int most = state.lookup ? std::min(timeout_ms, kLookMilliseconds) : timeout_ms;
    const int wait = std::clamp(static_cast<int>(patience), 0, std::max(0, most));
    const bool waits_to_send =
        state.connecting || (state.greeting ? state.tls->wants_to_send() : state.unsent_size > 0);
    pollfd watched[] = {{state.fd, static_cast<short>(waits_to_send ? POLLIN | POLLOUT : POLLIN), 0},
                        {wake_fd, POLLIN, 0}};  // poll passes over -1
    if (poll(watched, std::size(watched), wait) > 0 && watched[0].revents != 0) {
        if (state.connecting) state.finish_connecting();
        if (!state.lost && state.greeting) state.greet();
        const bool speaks = !state.lost && !state.connecting && !state.greeting;
        if (speaks && (watched[0].revents & ~POLLOUT) != 0) state.receive();
    }
    state.watch_time();
    state.send();
    if (!nghttp2_session_want_read(state.session) && !nghttp2_session_want_write(state.session))
        state.lose(state.gone());
}

bool Connection::connected() const {
    return state_->answered && !state_->lost;
}

bool Connection::lost() const {
    return state_->lost;
}

const Status& Connection::status() const {
    return state_->status;
}

}  // namespace backline::net
