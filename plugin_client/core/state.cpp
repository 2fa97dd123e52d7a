// "BACKLINE", version, checksum of the rest, then endpoint, packs and parameters; all numbers little-endian. What has
// come since is among the parameters, by numbers of its own.
#include "state.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace backline {
namespace {

constexpr char kMagic[8] = {'B', 'A', 'C', 'K', 'L', 'I', 'N', 'E'};
constexpr uint32_t kVersion = 1;
constexpr size_t kHeader = sizeof kMagic + 4 + 4;
constexpr size_t kLongestString = 4096;
constexpr uint64_t kMostNames = 1024;
constexpr uint32_t kKeptCount = kParameterCount - kSlots - 1;  // all but Status and what the pack names
// Among the parameters, where older versions pass over them.
constexpr uint32_t kCounted = 1000;  // packs by automation
constexpr uint32_t kNamed = 1001;    // the next eight bytes of what goes by name

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
        if (length > kLongestString || !take(length)) return whole_ = false, "";
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

uint64_t bits_of(double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

double double_of(uint64_t bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Values of packs' parameters, then texts, then the bank of prompts; nothing where there is none of them.
std::vector<uint8_t> encode_named(const State& state) {
    std::vector<uint8_t> out;
    if (state.named_values.empty() && state.texts.empty() && state.bank.words.empty()) return out;
    put_number(out, state.named_values.size(), 4);
    for (const auto& [name, value] : state.named_values) {
        put_text(out, name);
        put_number(out, bits_of(value), 8);
    }
    put_number(out, state.texts.size(), 4);
    for (const auto& [name, text] : state.texts) {
        put_text(out, name);
        put_text(out, text);
    }
    if (state.bank.words.empty()) return out;
    put_number(out, state.bank.words.size(), 4);
    for (const std::string& words : state.bank.words) put_text(out, words);
    put_text(out, state.bank.pack);
    return out;
}

// A bank that is none of ours is nobody's.
Bank decode_bank(Reader& body) {
    Bank bank;
    if (body.number(4) != kPrompts) return {};
    for (uint32_t slot = 0; slot < kPrompts; ++slot) bank.words.push_back(body.text());
    bank.pack = body.text();
    const bool sound = body.whole() && std::all_of(bank.words.begin(), bank.words.end(), is_prompt);
    return sound ? bank : Bank();
}

// False where it is a newer version's, with more names or longer texts; what follows the bank is passed over.
bool decode_named(const std::vector<uint8_t>& bytes, State& state) {
    Reader body(bytes.data(), bytes.size());
    const uint64_t values = body.number(4);
    if (values > kMostNames) return false;
    for (uint64_t i = 0; i < values && body.whole(); ++i) {
        const std::string name = body.text();
        const double value = double_of(body.number(8));
        if (std::isfinite(value)) state.named_values[name] = value;
    }
    const uint64_t texts = body.number(4);
    if (texts > kMostNames) return false;
    for (uint64_t i = 0; i < texts && body.whole(); ++i) {
        const std::string name = body.text(), text = body.text();
        if (is_text(name) && is_text(text)) state.texts[name] = text;
    }
    if (!body.whole()) return false;
    state.bank = decode_bank(body);
    return true;
}

}  // namespace

std::vector<uint8_t> encode_state(const State& state) {
    std::vector<uint8_t> body;
    put_text(body, state.endpoint);
    put_number(body, state.packs.names.size(), 4);
    for (const std::string& pack : state.packs.names) put_text(body, pack);
    std::vector<uint8_t> named = encode_named(state);
    const size_t pieces = (named.size() + 7) / 8;
    named.resize(8 * pieces);
    put_number(body, kKeptCount + 1 + pieces, 4);
    for (uint32_t index = 0; index < kParameterCount; ++index) {
        if (!is_kept(index)) continue;
        put_number(body, index, 4);
        put_number(body, bits_of(state.values[index]), 8);
    }
    put_number(body, kCounted, 4);
    put_number(body, state.packs.automated ? state.packs.counted : 0, 8);
    for (size_t piece = 0; piece < pieces; ++piece) {
        put_number(body, kNamed, 4);
        body.insert(body.end(), named.begin() + 8 * piece, named.begin() + 8 * (piece + 1));
    }
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
    std::vector<uint8_t> named;
    for (uint64_t i = 0; i < count && body.whole(); ++i) {
        const uint64_t index = body.number(4), bits = body.number(8);
        if (index == kNamed) put_number(named, bits, 8);
        if (index == kCounted) {
            read.packs.counted = static_cast<uint32_t>(std::min<uint64_t>(bits, kMaximumPacks));
            read.packs.automated = bits > 0;
        }
        if (index < kParameterCount && is_kept(static_cast<uint32_t>(index)))
            read.values[index] = clamp_parameter(static_cast<uint32_t>(index), double_of(bits));
    }
    if (!body.at_end()) return false;
    if (!named.empty() && !decode_named(named, read)) {
        read.named_values.clear();
        read.texts.clear();
    }
    state = read;
    return true;
}

}  // namespace backline
