// "BACKLINE", version, checksum of the rest, then endpoint, packs and parameters; all numbers little-endian.
#include "state.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace backline {
namespace {

constexpr char kMagic[8] = {'B', 'A', 'C', 'K', 'L', 'I', 'N', 'E'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = sizeof kMagic + 4 + 4;
constexpr size_t kLongestText = 4096;
constexpr uint32_t kCounted = 1000;  // among the parameters, where older versions pass over it: packs by automation

// FNV-1a: tells a damaged project file from a whole one.
uint32_t checksum(const uint8_t* data, size_t size) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < size; ++i) hash = (hash ^ data[i]) * 16777619u;
    return hash;
}

void put_number(std::vector<uint8_t>& out, uint64_t number, int bytes) {
    for (int i = 0; i < bytes; ++i) out.push_back(static_cast<uint8_t>(number >> (8 * i)));
}

void put_text(std::vector<uint8_t>& out, const std::string& text) {
    put_number(out, text.size(), 4);
    out.insert(out.end(), text.begin(), text.end());
}

// Reads in order; once something is missing, everything is.
class Reader {
  public:
    Reader(const uint8_t* data, size_t size) : data_(data), left_(size) {}

    uint64_t number(size_t bytes) {
        if (!take(bytes)) return 0;
        uint64_t value = 0;
        for (size_t i = 0; i < bytes; ++i) value |= uint64_t{data_[i]} << (8 * i);
        data_ += bytes;
        return value;
    }

    std::string text() {
        const size_t length = number(4);
        if (length > kLongestText || !take(length)) return whole_ = false, "";
        std::string value(reinterpret_cast<const char*>(data_), length);
        data_ += length;
        return value;
    }

    bool whole() const { return whole_; }
    bool at_end() const { return whole_ && left_ == 0; }

  private:
    bool take(size_t bytes) {
        whole_ = whole_ && bytes <= left_;
        if (whole_) left_ -= bytes;
        return whole_;
    }

    const uint8_t* data_;
    size_t left_;
    bool whole_ = true;
};

}  // namespace

std::vector<uint8_t> encode_state(const State& state) {
    std::vector<uint8_t> body;
    put_text(body, state.endpoint);
    put_number(body, state.packs.names.size(), 4);
    for (const std::string& pack : state.packs.names) put_text(body, pack);
    put_number(body, kStatus + 1, 4);  // the parameters before Status are the settings
    for (uint32_t index = 0; index < kStatus; ++index) {
        uint64_t bits;
        std::memcpy(&bits, &state.values[index], sizeof bits);
        put_number(body, index, 4);
        put_number(body, bits, 8);
    }
    put_number(body, kCounted, 4);
    put_number(body, state.packs.automated ? state.packs.counted : 0, 8);
    std::vector<uint8_t> out(kMagic, kMagic + sizeof kMagic);
    put_number(out, kVersion, 4);
    put_number(out, checksum(body.data(), body.size()), 4);
    out.insert(out.end(), body.begin(), body.end());
    return out;
}

bool decode_state(const uint8_t* data, size_t size, State& state) {
    if (!data || size < kHeader || std::memcmp(data, kMagic, sizeof kMagic) != 0) return false;
    Reader header(data + sizeof kMagic, 8);
    if (header.number(4) != kVersion) return false;
    if (header.number(4) != checksum(data + kHeader, size - kHeader)) return false;

    Reader body(data + kHeader, size - kHeader);
    State read;
    read.endpoint = body.text();
    const uint64_t packs = body.number(4);
    if (packs == 0 || packs > kMaximumPacks) return false;
    for (uint64_t i = 0; i < packs && body.whole(); ++i) read.packs.names.push_back(body.text());
    read.packs.counted = static_cast<uint32_t>(kMaximumPacks);  // unless it is told
    for (uint32_t index = 0; index < kParameterCount; ++index) read.values[index] = parameters()[index].initial;
    const uint64_t count = body.number(4);
    for (uint64_t i = 0; i < count && body.whole(); ++i) {
        const uint64_t index = body.number(4), bits = body.number(8);
        double value;
        std::memcpy(&value, &bits, sizeof value);
        if (index == kCounted) {
            read.packs.counted = static_cast<uint32_t>(std::min<uint64_t>(bits, kMaximumPacks));
            read.packs.automated = bits > 0;
        }
        if (index < kStatus) read.values[index] = clamp_parameter(static_cast<uint32_t>(index), value);
    }
    if (!body.at_end()) return false;
    state = read;
    return true;
}

}  // namespace backline
