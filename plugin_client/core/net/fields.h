// Field numbers of protos/backline/v1/backline.proto, for the messages of messages.h.
#pragma once

#include "protobuf.h"

namespace backline::net::protobuf {

template <>
struct FieldsOf<InputGroup> {
    static constexpr auto list = std::tuple{at(1, &InputGroup::name), at(2, &InputGroup::channels)};
};

template <>
struct FieldsOf<Open> {
    static constexpr auto list = std::tuple{at(1, &Open::pack),
                                            at(2, &Open::sample_rate),
                                            at(3, &Open::channels),
                                            at(4, &Open::block_size),
                                            at(5, &Open::mode),
                                            at(6, &Open::visibility_seconds),
                                            at(7, &Open::chunk_seconds),
                                            at(8, &Open::seed),
                                            at(9, &Open::parameters),
                                            at(11, &Open::on_jump),
                                            at(12, &Open::client_name),
                                            at(13, &Open::jitter_buffer_seconds),
                                            at(14, &Open::channel_layout),
                                            at(15, &Open::texts),
                                            at(16, &Open::inputs),
                                            at(20, &Open::lease_seconds)};
};

template <>
struct FieldsOf<Resume> {
    static constexpr auto list = std::tuple{at(1, &Resume::token), at(3, &Resume::received)};
};

template <>
struct FieldsOf<Ack> {
    static constexpr auto list = std::tuple{at(1, &Ack::received)};
};

template <>
struct FieldsOf<AudioBlock> {
    static constexpr auto list =
        std::tuple{at(1, &AudioBlock::sequence), at(2, &AudioBlock::position), at(3, &AudioBlock::pcm),
                   at(4, &AudioBlock::port), at(5, &AudioBlock::committed)};
};

template <>
struct FieldsOf<Control> {
    static constexpr auto list =
        std::tuple{at(1, &Control::parameter), at(2, &Control::value), at(3, &Control::position)};
};

template <>
struct FieldsOf<Text> {
    static constexpr auto list = std::tuple{at(1, &Text::name), at(2, &Text::text), at(3, &Text::position)};
};

template <>
struct FieldsOf<TransportMessage> {
    static constexpr auto list =
        std::tuple{at(1, &TransportMessage::position),    at(2, &TransportMessage::playing),
                   at(3, &TransportMessage::tempo),       at(4, &TransportMessage::numerator),
                   at(5, &TransportMessage::denominator), at(6, &TransportMessage::song_position),
                   at(7, &TransportMessage::bar_start),   at(8, &TransportMessage::looping),
                   at(9, &TransportMessage::loop_start),  at(10, &TransportMessage::loop_end)};
};

template <>
struct FieldsOf<Midi> {
    static constexpr auto list = std::tuple{at(1, &Midi::position), at(2, &Midi::data)};
};

template <>
struct FieldsOf<Take> {
    static constexpr auto list = std::tuple{at(1, &Take::position), at(2, &Take::heard_from), at(3, &Take::skipped)};
};

template <>
struct FieldsOf<Close> {
    static constexpr auto list = std::tuple{at(1, &Close::discard)};
};

template <>
struct FieldsOf<ClientMessage> {
    static constexpr auto list =
        std::tuple{at(1, &ClientMessage::open),    at(2, &ClientMessage::resume),    at(3, &ClientMessage::audio),
                   at(4, &ClientMessage::control), at(5, &ClientMessage::transport), at(6, &ClientMessage::midi),
                   at(9, &ClientMessage::close),   at(10, &ClientMessage::text),     at(15, &ClientMessage::ack),
                   at(30, &ClientMessage::take)};
};

template <>
struct FieldsOf<OutputPort> {
    static constexpr auto list =
        std::tuple{at(1, &OutputPort::name), at(2, &OutputPort::channels), at(3, &OutputPort::description)};
};

template <>
struct FieldsOf<LedgerItem> {
    static constexpr auto list = std::tuple{at(1, &LedgerItem::name), at(2, &LedgerItem::seconds),
                                            at(3, &LedgerItem::measured), at(4, &LedgerItem::explanation)};
};

template <>
struct FieldsOf<Ledger> {
    static constexpr auto list =
        std::tuple{at(1, &Ledger::items), at(2, &Ledger::total_seconds), at(3, &Ledger::latency_samples)};
};

template <>
struct FieldsOf<Ready> {
    static constexpr auto list = std::tuple{at(1, &Ready::session),
                                            at(2, &Ready::token),
                                            at(3, &Ready::seed),
                                            at(4, &Ready::ports),
                                            at(5, &Ready::ledger),
                                            at(6, &Ready::chunk_seconds),
                                            at(7, &Ready::visibility_seconds),
                                            at(8, &Ready::parameters),
                                            at(9, &Ready::max_block),
                                            at(10, &Ready::texts),
                                            at(20, &Ready::lease_seconds),
                                            at(21, &Ready::received),
                                            at(22, &Ready::sent),
                                            at(23, &Ready::input_position)};
};

template <>
struct FieldsOf<Dry> {
    static constexpr auto list = std::tuple{at(1, &Dry::position), at(2, &Dry::samples)};
};

template <>
struct FieldsOf<Warning> {
    static constexpr auto list =
        std::tuple{at(1, &Warning::code), at(2, &Warning::message), at(3, &Warning::count), at(4, &Warning::position)};
};

template <>
struct FieldsOf<Error> {
    static constexpr auto list = std::tuple{at(1, &Error::status), at(2, &Error::message)};
};

template <>
struct FieldsOf<Closed> {
    static constexpr auto list =
        std::tuple{at(1, &Closed::samples_in), at(2, &Closed::samples_out), at(3, &Closed::chunks),
                   at(4, &Closed::late_chunks), at(5, &Closed::compute_seconds)};
};

template <>
struct FieldsOf<ServerMessage> {
    static constexpr auto list =
        std::tuple{at(1, &ServerMessage::ready),   at(2, &ServerMessage::audio), at(4, &ServerMessage::ledger),
                   at(6, &ServerMessage::warning), at(7, &ServerMessage::error), at(8, &ServerMessage::closed),
                   at(9, &ServerMessage::text),    at(15, &ServerMessage::dry),   at(30, &ServerMessage::take)};
};

template <>
struct FieldsOf<PackParameter> {
    static constexpr auto list = std::tuple{at(1, &PackParameter::name),    at(2, &PackParameter::default_value),
                                            at(3, &PackParameter::minimum), at(4, &PackParameter::maximum),
                                            at(5, &PackParameter::unit),    at(6, &PackParameter::description),
                                            at(7, &PackParameter::integer), at(8, &PackParameter::automatable),
                                            at(9, &PackParameter::labels)};
};

template <>
struct FieldsOf<PackText> {
    static constexpr auto list = std::tuple{at(1, &PackText::name), at(2, &PackText::default_value),
                                            at(3, &PackText::description), at(4, &PackText::suggestions)};
};

template <>
struct FieldsOf<PackInput> {
    static constexpr auto list =
        std::tuple{at(1, &PackInput::name), at(2, &PackInput::channels), at(3, &PackInput::description)};
};

template <>
struct FieldsOf<Codebook> {
    static constexpr auto list = std::tuple{at(1, &Codebook::name)};
};

template <>
struct FieldsOf<Task> {
    static constexpr auto list =
        std::tuple{at(1, &Task::name), at(4, &Task::inputs), at(5, &Task::texts), at(6, &Task::parameters)};
};

template <>
struct FieldsOf<Pack> {
    static constexpr auto list = std::tuple{at(1, &Pack::name),
                                            at(2, &Pack::version),
                                            at(3, &Pack::family),
                                            at(4, &Pack::description),
                                            at(5, &Pack::state),
                                            at(6, &Pack::problem),
                                            at(7, &Pack::model_rate),
                                            at(8, &Pack::ports),
                                            at(9, &Pack::parameters),
                                            at(10, &Pack::chunk_quantum_seconds),
                                            at(11, &Pack::default_chunk_seconds),
                                            at(12, &Pack::maximum_chunk_seconds),
                                            at(13, &Pack::default_visibility_seconds),
                                            at(14, &Pack::minimum_visibility_seconds),
                                            at(20, &Pack::lookahead_seconds),
                                            at(21, &Pack::metres),
                                            at(22, &Pack::inputs),
                                            at(23, &Pack::texts),
                                            at(24, &Pack::takes_notes),
                                            at(26, &Pack::takes),
                                            at(27, &Pack::tasks)};
};

template <>
struct FieldsOf<ListPacksRequest> {
    static constexpr auto list = std::tuple{};
};

template <>
struct FieldsOf<ListPacksResponse> {
    static constexpr auto list = std::tuple{at(1, &ListPacksResponse::packs)};
};

template <>
struct FieldsOf<GetPackRequest> {
    static constexpr auto list = std::tuple{at(1, &GetPackRequest::name)};
};

template <>
struct FieldsOf<AdviseRequest> {
    static constexpr auto list =
        std::tuple{at(1, &AdviseRequest::open), at(2, &AdviseRequest::round_trip_seconds),
                   at(3, &AdviseRequest::latency_seconds), at(4, &AdviseRequest::tempo)};
};

template <>
struct FieldsOf<Advice> {
    static constexpr auto list = std::tuple{at(1, &Advice::verdict), at(2, &Advice::chunk_seconds),
                                            at(3, &Advice::visibility_seconds), at(4, &Advice::latency_seconds),
                                            at(5, &Advice::reason)};
};

}  // namespace backline::net::protobuf
