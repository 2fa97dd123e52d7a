// Protocol Buffers' wire format for plain structs: a message is what its list of fields says.
//
//     template <> struct FieldsOf<Midi> {
//         static constexpr auto list = std::tuple{at(1, &Midi::position), at(2, &Midi::data)};
//     };
//
// A member's type decides how it goes over the wire: whole numbers, bool and enums as varint, double as fixed64, text
// and Bytes by length, std::optional with presence, std::vector repeated, std::map from text to one of these as a map.
// Fields that the struct lacks are skipped. Input is refused where it is cut short, or claims what no sender means.
#pragma once

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "messages.h"

namespace backline::net::protobuf {

constexpr size_t kMaximumEntries = 4096;  // of one list: two bytes on the wire must not become gigabytes of memory

template <class Message>
struct FieldsOf;

template <class Message, class Member>
struct FieldAt {
    uint32_t number;
    Member Message::*member;
};

template <class Message, class Member>
constexpr FieldAt<Message, Member> at(uint32_t number, Member Message::*member) {
    return {number, member};
}

enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kLength = 2, kFixed32 = 5 };

// One entry of a map. Both parts are written even where they are zero, as other encoders do.
template <class Value>
struct Entry {
    std::optional<std::string> key;
    std::optional<Value> value;
};

template <class Value>
struct FieldsOf<Entry<Value>> {
    static constexpr auto list = std::tuple{at(1, &Entry<Value>::key), at(2, &Entry<Value>::value)};
};

template <class T, template <class...> class Template>
struct IsA : std::false_type {};
template <template <class...> class Template, class... Arguments>
struct IsA<Template<Arguments...>, Template> : std::true_type {};

template <class T>
constexpr bool is_whole = std::is_integral_v<T> || std::is_enum_v<T>;
template <class T>
constexpr bool is_map = IsA<T, std::map>::value;
template <class T>
constexpr bool is_message =
    !is_whole<T> && !is_map<T> && !std::is_same_v<T, double> && !std::is_same_v<T, std::string> &&
    !std::is_same_v<T, Bytes> && !IsA<T, std::optional>::value && !IsA<T, std::vector>::value;
template <class T>
constexpr Wire wire_of = is_whole<T>                 ? kVarint
                         : std::is_same_v<T, double> ? kFixed64
                                                     : kLength;

// ---- writing ---------------------------------------------------------------------------------------------------

class Writer {
  public:
    explicit Writer(Buffer& out) : out_(out) {}

    void varint(uint64_t value) {
        for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<uint8_t>(value | 0x80));
        out_.push_back(static_cast<uint8_t>(value));
    }
    void raw(const void* data, size_t size) {
        const auto* bytes = static_cast<const uint8_t*>(data);
        out_.insert(out_.end(), bytes, bytes + size);
    }

  private:
    Buffer& out_;
};

// Measures what a Writer would write: a message's length stands before it.
class Counter {
  public:
    void varint(uint64_t value) {
        do ++size;
        while (value >>= 7);
    }
    void raw(const void*, size_t count) { size += count; }

    size_t size = 0;
};

template <class Sink, class Message>
void write(Sink& out, const Message& message);

template <class Message>
size_t size_of(const Message& message) {
    Counter counter;
    write(counter, message);
    return counter.size;
}

// Writes the field whatever its value.
template <class Sink, class T>
void write_present(Sink& out, uint32_t number, const T& value) {
    out.varint(number << 3 | wire_of<T>);
    if constexpr (is_whole<T>) {
        out.varint(static_cast<uint64_t>(value));  // negative ones, of enums too, fill all 64 bits
    } else if constexpr (std::is_same_v<T, double>) {
        out.raw(&value, sizeof value);
    } else if constexpr (is_message<T>) {
        out.varint(size_of(value));
        write(out, value);
    } else if constexpr (std::is_same_v<T, std::string>) {
        out.varint(value.size());
        out.raw(value.data(), value.size());
    } else {
        out.varint(value.size);
        out.raw(value.data, value.size);
    }
}

// Writes the field unless it says what its absence says.
template <class Sink, class T>
void write_field(Sink& out, uint32_t number, const T& value) {
    if constexpr (IsA<T, std::optional>::value) {
        if (value) write_present(out, number, *value);
    } else if constexpr (IsA<T, std::vector>::value) {
        for (const auto& element : value) write_present(out, number, element);
    } else if constexpr (is_map<T>) {
        for (const auto& [name, content] : value)
            write_present(out, number, Entry<typename T::mapped_type>{name, content});
    } else if constexpr (is_message<T>) {
        if (size_of(value) > 0) write_present(out, number, value);
    } else if constexpr (std::is_same_v<T, double>) {
        uint64_t bits = 0;  // minus zero is not what absence says
        std::memcpy(&bits, &value, sizeof bits);
        if (bits != 0) write_present(out, number, value);
    } else if constexpr (is_whole<T>) {
        if (value != T{}) write_present(out, number, value);
    } else if constexpr (std::is_same_v<T, std::string>) {
        if (!value.empty()) write_present(out, number, value);
    } else {
        if (value.size > 0) write_present(out, number, value);
    }
}

template <class Sink, class Message>
void write(Sink& out, const Message& message) {
    std::apply([&](const auto&... field) { (write_field(out, field.number, message.*field.member), ...); },
               FieldsOf<Message>::list);
}

// ---- reading ---------------------------------------------------------------------------------------------------

// One field as it lies on the wire.
struct Field {
    uint32_t number = 0;
    Wire wire = kVarint;
    uint64_t scalar = 0;  // of varint and fixed64
    Bytes bytes;          // of what has a length
};

class Reader {
  public:
    explicit Reader(Bytes bytes) : bytes_(bytes) {}

    bool at_end() const { return bytes_.size == 0; }

    // The next field; false where what is left is none.
    bool next(Field& field) {
        uint64_t key = 0;
        if (!varint(key) || key >> 3 == 0 || key >> 32 != 0) return false;
        field.number = static_cast<uint32_t>(key >> 3);
        field.wire = static_cast<Wire>(key & 7);
        switch (field.wire) {
            case kVarint:
                return varint(field.scalar);
            case kFixed64:
                return fixed(8, field.scalar);
            case kFixed32:
                return fixed(4, field.scalar);
            case kLength: {
                uint64_t size = 0;
                if (!varint(size) || size > bytes_.size) return false;
                field.bytes = {bytes_.data, static_cast<size_t>(size)};
                skip(field.bytes.size);
                return true;
            }
        }
        return false;  // groups, which proto3 does not have
    }

  private:
    bool varint(uint64_t& value) {
        value = 0;
        for (unsigned shift = 0; shift < 70 && bytes_.size > 0; shift += 7) {
            const uint8_t byte = *bytes_.data;
            skip(1);
            value |= shift < 64 ? static_cast<uint64_t>(byte & 0x7f) << shift : 0;
            if (byte < 0x80) return true;
        }
        return false;
    }
    bool fixed(size_t size, uint64_t& value) {
        if (size > bytes_.size) return false;
        value = 0;
        for (size_t index = 0; index < size; ++index) value |= static_cast<uint64_t>(bytes_.data[index]) << (8 * index);
        skip(size);
        return true;
    }
    void skip(size_t size) { bytes_ = {bytes_.data + size, bytes_.size - size}; }

    Bytes bytes_;
};

template <class Message>
bool read(Bytes bytes, Message& message);

// Reads a field into the member that it belongs to, if it has the wire type that such a member has.
template <class T>
bool read_field(const Field& field, T& value) {
    if constexpr (IsA<T, std::optional>::value) {
        if (field.wire != wire_of<typename T::value_type>) return true;
        return read_field(field, value ? *value : value.emplace());
    } else if (field.wire != wire_of<T>) {
        return true;
    } else if constexpr (std::is_same_v<T, bool>) {
        value = field.scalar != 0;
    } else if constexpr (is_whole<T>) {
        value = static_cast<T>(field.scalar);
    } else if constexpr (std::is_same_v<T, double>) {
        std::memcpy(&value, &field.scalar, sizeof value);
    } else if constexpr (std::is_same_v<T, std::string>) {
        value.assign(reinterpret_cast<const char*>(field.bytes.data), field.bytes.size);
    } else if constexpr (std::is_same_v<T, Bytes>) {
        value = field.bytes;
    } else if constexpr (is_map<T>) {
        Entry<typename T::mapped_type> entry;
        if (value.size() >= kMaximumEntries || !read(field.bytes, entry)) return false;
        value[entry.key.value_or(std::string())] = entry.value.value_or(typename T::mapped_type());
    } else if constexpr (IsA<T, std::vector>::value) {
        if (value.size() >= kMaximumEntries) return false;
        if constexpr (is_message<typename T::value_type>)
            return read(field.bytes, value.emplace_back());
        else
            return read_field(field, value.emplace_back());
    } else {
        return read(field.bytes, value);
    }
    return true;
}

template <class Message>
bool read(Bytes bytes, Message& message) {
    Reader reader(bytes);
    Field field;
    while (!reader.at_end()) {
        if (!reader.next(field)) return false;
        const bool good = std::apply(
            [&](const auto&... known) {
                return ((known.number != field.number || read_field(field, message.*known.member)) && ...);
            },
            FieldsOf<Message>::list);
        if (!good) return false;
    }
    return true;
}

}  // namespace backline::net::protobuf
