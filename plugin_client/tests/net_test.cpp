// Exercises core/net for tests/plugin/test_net.py: each command does one thing and prints what it found.
//
//     net_test units                                             what needs no one else
//     net_test places                                            where sockets may lie, and what is tried first to last
//     net_test servers [ADDRESS]                                 what the user's file says of them, and of that one
//     net_test codec < messages > messages                       reads each message and writes it again
//     net_test packs|pack ADDRESS [NAME]                         a unary call
//     net_test echo ADDRESS PACK RATE CHANNELS BLOCK BLOCKS      random blocks must come back bit for bit
//     net_test hold ADDRESS MILLISECONDS [CONNECT QUIET SILENT]  an open session without audio, until it or time ends
//     net_test pull ADDRESS                                      one stream, of which only the sizes are told
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <new>
#include <random>

#include "net/call_state.h"
#include "net/connection.h"
#include "net/fields.h"
#include "net/own_end.h"

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

using namespace backline::net;
using Clock = std::chrono::steady_clock;

namespace {

Bytes view(const Buffer& buffer) {
    return {buffer.data(), buffer.size()};
}

int milliseconds_since(Clock::time_point begin) {
    return static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count());
}

Address address_of(const std::string& text) {
    std::vector<Address> addresses;
    std::string error;
    if (!addresses_of(text, {}, addresses, error)) {
        std::fprintf(stderr, "%s\n", error.c_str());
        std::exit(1);
    }
    return addresses.front();
}

// As the user's file says.
Access access_of(const std::string& address) {
    Servers servers;
    CHECK(servers.look() && servers.problem().empty());
    return servers.access(address_of(address));
}

int tell(const Status& status) {
    std::printf("status %d %s\n", status.code, status.message.c_str());
    return 0;
}

// ---- units -------------------------------------------------------------------------------------------------------

void addresses_are_what_users_write() {
    Address address;
    std::string error;
    for (const char* good : {"127.0.0.1:50505", "[::1]:1", "localhost:65535", "unix:/nowhere/a socket", "unix:relative"})
        CHECK(parse_address(good, address, error) && address.socket.size > 0);
    CHECK(address.local());
    for (const char* name : {"studio:50505", "studio.example:50505", "4.rack-2.example:1"})
        CHECK(parse_address(name, address, error) && address.socket.size == 0 && !address.local());
    CHECK(address.host == "4.rack-2.example" && address.port == "1");
    for (const char* bad :
         {"", ":", "host", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "1.2.3.4:-1", "1.2.3:5",
          "stu dio:5", "::1:5", "[::1]", "[]:5", "unix:", "127.0.0.1:5x", "1.2.3.4:999999999999"}) {
        error.clear();
        CHECK(!parse_address(bad, address, error) && error.find("127.0.0.1:50505") != std::string::npos);
    }
    CHECK(!parse_address("unix:" + std::string(200, 'x'), address, error));
}

void an_empty_endpoint_is_loopback_where_there_is_no_socket() {
    std::vector<Address> addresses;
    std::string error;
    for (const char* variable : {"XDG_STATE_HOME", "HOME"}) setenv(variable, "/nonexistent", 1);
    for (const std::string& folder : {std::string("/nonexistent"), "/" + std::string(200, 'x')}) {
        setenv("XDG_RUNTIME_DIR", folder.c_str(), 1);
        unsetenv("BACKLINE_ADDRESS");
        CHECK(addresses_of("", {}, addresses, error) && addresses.back().text == "127.0.0.1:50505");
        for (const Address& address : addresses) CHECK(address.text.find(folder) == std::string::npos);
    }
    CHECK(addresses_of("", {"studio:1", "127.0.0.1:50505", "[::1]:2"}, addresses, error) && addresses.size() >= 3);
    CHECK(addresses.end()[-3].text == "127.0.0.1:50505");  // and what the user has written down, each once
    CHECK(addresses.end()[-2].text == "studio:1" && addresses.end()[-1].text == "[::1]:2");
    setenv("BACKLINE_ADDRESS", "[::1]:7", 1);
    CHECK(addresses_of("", {}, addresses, error) && addresses.size() == 1 && addresses[0].text == "[::1]:7");
    CHECK(addresses_of("127.0.0.1:8", {}, addresses, error) && addresses[0].text == "127.0.0.1:8");
    CHECK(!addresses_of("nonsense", {}, addresses, error));
}

// Messages of these sizes, framed as gRPC does it.
Buffer framed(const std::vector<size_t>& sizes) {
    Buffer stream;
    for (const size_t size : sizes) {
        for (const size_t byte : {size_t(0), size >> 24, size >> 16, size >> 8, size})
            stream.push_back(static_cast<uint8_t>(byte));
        for (size_t index = 0; index < size; ++index) stream.push_back(static_cast<uint8_t>(size + index));
    }
    return stream;
}

void messages_come_whole_however_the_bytes_are_cut() {
    std::mt19937 random(1);
    const std::vector<size_t> sizes = {0, 1, 300, 0, 70'000, 5, 4, 3};
    const Buffer stream = framed(sizes);
    for (const size_t largest : {1, 4, 7, 1000, 100'000}) {
        std::vector<size_t> seen;
        CallState call([&](Bytes bytes) {
            for (size_t index = 0; index < bytes.size; ++index)
                CHECK(bytes.data[index] == static_cast<uint8_t>(bytes.size + index));
            seen.push_back(bytes.size);
        });
        for (size_t at = 0; at < stream.size();) {
            const size_t count = std::min(stream.size() - at, 1 + random() % largest);
            CHECK(call.receive({stream.data() + at, count}));
            at += count;
        }
        CHECK(seen == sizes && !call.ended);
    }
}

void bytes_that_are_no_messages_end_the_call() {
    for (const Buffer& bytes : {Buffer{1, 0, 0, 0, 1, 7}, Buffer{0, 255, 255, 255, 255}}) {
        CallState call([](Bytes) { CHECK(false); });
        CHECK(!call.receive(view(bytes)) && call.ended && call.status.code == kInternal);
    }
}

void what_goes_wrong_with_a_message_ends_its_call_alone() {
    CallState call([](Bytes) { throw std::bad_alloc(); });
    Buffer bytes(kPrefix);
    CHECK(!call.receive(view(bytes)));
    CHECK(call.ended && call.status.code == kInternal);
    CHECK(call.status.message.find("could not be handled") != std::string::npos);
}

// Bound to the port that it then connects to, as the system may do it by chance.
void a_socket_that_is_connected_to_itself_is_known() {
    const int listening = socket(AF_INET, SOCK_STREAM, 0), itself = socket(AF_INET, SOCK_STREAM, 0);
    const int other = socket(AF_INET, SOCK_STREAM, 0);
    const auto bound_to_any = [](int fd) {
        sockaddr_in name = {};
        name.sin_family = AF_INET;
        name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof name;
        CHECK(bind(fd, reinterpret_cast<sockaddr*>(&name), size) == 0);
        CHECK(getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size) == 0);
        return name;
    };
    const auto connect_to = [](int fd, const sockaddr_in& name) {
        return connect(fd, reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0;
    };
    const sockaddr_in there = bound_to_any(listening);
    CHECK(listen(listening, 1) == 0 && connect_to(other, there) && !is_own_end(other));
    CHECK(connect_to(itself, bound_to_any(itself)) && is_own_end(itself));
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && !is_own_end(pair[0]));
    for (const int fd : {listening, itself, other, pair[0], pair[1]}) close(fd);
    CHECK(!is_own_end(-1));
}

void statuses_are_read_as_grpc_writes_them() {
    const auto ended = [](const std::vector<std::pair<std::string, std::string>>& fields, uint32_t error = 0) {
        CallState call([](Bytes) {});
        for (const auto& [name, value] : fields) call.header(name, value);
        call.conclude(error);
        CHECK(call.ended);
        return call.status;
    };
    CHECK(ended({{"grpc-status", "0"}}).ok());
    const Status bad = ended({{"grpc-status", "5"}, {"grpc-message", "no pack %27x%27: %E2%99%AA 100% %zz %4"}});
    CHECK(bad.code == kNotFound && bad.message == "no pack 'x': \u266a 100% %zz %4");
    CHECK(ended({{"grpc-status", "99"}}).code == kUnknown && ended({{"grpc-status", "ok"}}).code == kUnknown);
    CHECK(ended({{":status", "404"}, {"content-type", "text/html"}}).message.find("404") != std::string::npos);
    CHECK(ended({{":status", "200"}, {"content-type", "application/grpc"}}, NGHTTP2_CANCEL).code == kCancelled);
    CHECK(ended({}, NGHTTP2_REFUSED_STREAM).code == kUnavailable && ended({}).code == kInternal);
}

int places() {
    for (const std::string& place : user_sockets()) std::printf("place %s\n", place.c_str());
    std::vector<Address> addresses;
    std::string error;
    CHECK(addresses_of("", {}, addresses, error));
    for (const Address& address : addresses) std::printf("address %s\n", address.text.c_str());
    return tell({});
}

int servers(const std::vector<std::string>& asked) {
    Servers found;
    CHECK(found.look() && !found.look());
    if (!found.problem().empty()) std::printf("problem %s\n", found.problem().c_str());
    const auto print = [&](const char* what, const std::string& address) {
        const Access access = found.access(address_of(address));
        std::printf("%s %s %d %s %s\n", what, address.c_str(), access.tls, access.key.c_str(), access.ca.c_str());
    };
    for (const std::string& address : found.addresses()) print("server", address);
    for (const std::string& address : asked) print("access", address);
    return 0;
}

// ---- codec -------------------------------------------------------------------------------------------------------

template <class Message>
bool again(Bytes bytes, Buffer& out) {
    Message message;
    if (!protobuf::read(bytes, message)) return false;
    protobuf::Writer writer(out);
    protobuf::write(writer, message);
    CHECK(protobuf::size_of(message) == out.size());
    return true;
}

bool again(char kind, Bytes bytes, Buffer& out) {
    switch (kind) {
        case 'c':
            return again<ClientMessage>(bytes, out);
        case 's':
            return again<ServerMessage>(bytes, out);
        case 'l':
            return again<ListPacksRequest>(bytes, out);
        case 'L':
            return again<ListPacksResponse>(bytes, out);
        case 'g':
            return again<GetPackRequest>(bytes, out);
        case 'p':
            return again<Pack>(bytes, out);
        case 'a':
            return again<AdviseRequest>(bytes, out);
        case 'A':
            return again<Advice>(bytes, out);
    }
    CHECK(!"a kind of message");
}

// Both ways: kind, size (of 4 bytes), bytes; a size of -1 stands for a message that was refused.
int codec() {
    char kind = 0;
    int32_t size = 0;
    Buffer in, out;
    while (std::fread(&kind, 1, 1, stdin) == 1) {
        CHECK(std::fread(&size, sizeof size, 1, stdin) == 1);
        in.assign(static_cast<size_t>(size), 0);
        in.shrink_to_fit();  // so that a sanitizer sees a byte read too far
        CHECK(std::fread(in.data(), 1, in.size(), stdin) == in.size());
        out.clear();
        size = again(kind, view(in), out) ? static_cast<int32_t>(out.size()) : -1;
        std::fwrite(&kind, 1, 1, stdout);
        std::fwrite(&size, sizeof size, 1, stdout);
        if (size > 0) std::fwrite(out.data(), 1, out.size(), stdout);
        std::fflush(stdout);
    }
    return 0;
}

// ---- calls -------------------------------------------------------------------------------------------------------

int packs(const std::string& address) {
    Connection connection(address_of(address), access_of(address));
    ListPacksResponse found;
    const Status status = ask(connection, kListPacks, ListPacksRequest{}, found, 20'000);
    for (const Pack& pack : found.packs) std::printf("pack %s\n", pack.name.c_str());
    return tell(status);
}

int pack(const std::string& address, const std::string& name) {
    Connection connection(address_of(address), access_of(address));
    Pack found;
    const Status status = ask(connection, kGetPack, GetPackRequest{name}, found, 20'000);
    for (const OutputPort& port : found.ports) std::printf("port %s %u\n", port.name.c_str(), port.channels);
    for (const PackParameter& each : found.parameters)
        std::printf("parameter %s %g %g %g\n", each.name.c_str(), each.minimum, each.default_value, each.maximum);
    std::printf("chunk %g %g %g\n", found.chunk_quantum_seconds, found.default_chunk_seconds,
                found.maximum_chunk_seconds);
    std::printf("visibility %g %g %g\n", found.minimum_visibility_seconds, found.default_visibility_seconds,
                found.lookahead_seconds);
    return tell(status);
}

ClientMessage opening(const std::string& pack, uint32_t rate, uint32_t channels, uint32_t block) {
    ClientMessage message;
    Open& open = message.open.emplace();
    open.pack = pack;
    open.sample_rate = rate;
    open.channels = channels;
    open.block_size = block;
    open.mode = Mode::offline;
    open.chunk_seconds = 0.01;
    open.client_name = "net_test";
    return message;
}

int echo(const std::string& address, const std::string& pack, uint32_t rate, uint32_t channels, uint32_t block,
         uint32_t blocks) {
    constexpr int64_t kStart = -777;  // positions are the client's
    Connection connection(address_of(address), access_of(address));
    std::vector<float> sent(static_cast<size_t>(channels) * block * blocks);
    std::mt19937 random(block);
    std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
    for (float& sample : sent) sample = uniform(random);
    const size_t frame_bytes = channels * sizeof(float);
    size_t received = 0;  // bytes
    size_t most_unsent = 0;
    int64_t samples_out = -1;
    uint64_t sequence = 0;
    std::string token;
    const auto call = connection.start(kStream, [&](Bytes bytes) {
        ServerMessage message;
        CHECK(decode(bytes, message));
        if (message.ready) token = message.ready->token;
        if (message.closed) samples_out = message.closed->samples_out;
        if (!message.audio) return;
        CHECK(message.audio->sequence == sequence++);
        CHECK(message.audio->position == kStart + static_cast<int64_t>(received / frame_bytes));
        const Bytes pcm = message.audio->pcm;
        CHECK(received + pcm.size <= sent.size() * sizeof(float));
        CHECK(std::memcmp(reinterpret_cast<const uint8_t*>(sent.data()) + received, pcm.data, pcm.size) == 0);
        received += pcm.size;
    });
    call->send(opening(pack, rate, channels, block));
    for (uint32_t index = 0; index < blocks && !call->ended(); ++index) {
        ClientMessage message;
        AudioBlock& audio = message.audio.emplace();
        audio.sequence = index;
        audio.position = kStart + static_cast<int64_t>(index) * block;
        audio.pcm = {reinterpret_cast<const uint8_t*>(sent.data() + static_cast<size_t>(index) * block * channels),
                     block * frame_bytes};
        call->send(message);
        most_unsent = std::max(most_unsent, call->unsent());
        while (call->unsent() > (4u << 20u) && !call->ended()) connection.run(1000);
    }
    ClientMessage last;
    last.close.emplace();
    call->send(last);
    call->finish();
    const auto begin = Clock::now();
    while (!call->ended() && milliseconds_since(begin) < 60'000) connection.run(1000);
    if (call->status().ok()) {
        CHECK(call->ended() && call->unsent() == 0 && !token.empty());
        CHECK(received == sent.size() * sizeof(float) && samples_out == static_cast<int64_t>(block) * blocks);
    }
    std::printf("received %zu\nunsent %zu\n", received, most_unsent);
    return tell(call->status());
}

int hold(const std::string& address, int milliseconds, const Patience& patience) {
    const auto begin = Clock::now();
    Connection connection(address_of(address), access_of(address), patience);
    const auto call = connection.start(kStream, [](Bytes bytes) {
        ServerMessage message;
        if (decode(bytes, message) && message.ready) {
            std::printf("ready\n");
            std::fflush(stdout);
        }
    });
    call->send(opening("passthrough", 48'000, 2, 512));
    while (!call->ended() && milliseconds_since(begin) < milliseconds) connection.run(100);
    std::printf("connected %d\nlost %d\n", connection.connected(), connection.lost());
    if (!call->ended()) return tell({});
    if (connection.lost()) {
        // Whoever goes on is told the same at once.
        call->send(opening("passthrough", 48'000, 2, 512));
        connection.run(1000);
        const auto next = connection.start(kStream, [](Bytes) {});
        CHECK(call->unsent() == 0 && next->ended() && next->status().message == connection.status().message);
    }
    return tell(call->status());
}

int pull(const std::string& address) {
    Connection connection(address_of(address), access_of(address));
    size_t messages = 0;
    size_t bytes_in_all = 0;
    const auto call = connection.start(kStream, [&](Bytes bytes) {
        ++messages;
        bytes_in_all += bytes.size;
    });
    call->finish();
    const auto begin = Clock::now();
    while (!call->ended() && milliseconds_since(begin) < 60'000) connection.run(1000);
    std::printf("messages %zu\nbytes %zu\n", messages, bytes_in_all);
    return tell(call->status());
}

int units() {
    addresses_are_what_users_write();
    an_empty_endpoint_is_loopback_where_there_is_no_socket();
    messages_come_whole_however_the_bytes_are_cut();
    bytes_that_are_no_messages_end_the_call();
    what_goes_wrong_with_a_message_ends_its_call_alone();
    a_socket_that_is_connected_to_itself_is_known();
    statuses_are_read_as_grpc_writes_them();
    return 0;
}

}  // namespace

int main(int count, char** arguments) {
    const std::vector<std::string> given(arguments + 1, arguments + count);
    const auto is = [&](const char* name, size_t most, size_t least) {
        return !given.empty() && given[0] == name && given.size() > least && given.size() <= most + 1;
    };
    const auto number = [&](size_t index) { return std::atoi(given[index].c_str()); };
    if (is("units", 0, 0)) return units();
    if (is("places", 0, 0)) return places();
    if (is("servers", 1, 0)) return servers({given.begin() + 1, given.end()});
    if (is("codec", 0, 0)) return codec();
    if (is("packs", 1, 1)) return packs(given[1]);
    if (is("pack", 2, 2)) return pack(given[1], given[2]);
    if (is("echo", 6, 6)) return echo(given[1], given[2], number(3), number(4), number(5), number(6));
    if (is("hold", 2, 2)) return hold(given[1], number(2), {});
    if (is("hold", 5, 5)) return hold(given[1], number(2), {number(3), number(4), number(5)});
    if (is("pull", 1, 1)) return pull(given[1]);
    std::fprintf(stderr, "usage: see the first lines of net_test.cpp\n");
    return 2;
}
