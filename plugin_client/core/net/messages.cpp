// The messages between structs and bytes.
#include "messages.h"

#include "fields.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers and PCM go over the wire as they lie in memory");

namespace backline::net {

namespace {

template <class Message>
void append(const Message& message, Buffer& out) {
    protobuf::Writer writer(out);
    protobuf::write(writer, message);
}

}  // namespace

void encode(const ClientMessage& message, Buffer& out) {
    append(message, out);
}
void encode(const ListPacksRequest& message, Buffer& out) {
    append(message, out);
}
void encode(const GetPackRequest& message, Buffer& out) {
    append(message, out);
}
void encode(const AdviseRequest& message, Buffer& out) {
    append(message, out);
}

bool decode(Bytes bytes, ServerMessage& message) {
    return protobuf::read(bytes, message);
}
bool decode(Bytes bytes, ListPacksResponse& message) {
    return protobuf::read(bytes, message);
}
bool decode(Bytes bytes, Pack& message) {
    return protobuf::read(bytes, message);
}
bool decode(Bytes bytes, Advice& message) {
    return protobuf::read(bytes, message);
}

}  // namespace backline::net
