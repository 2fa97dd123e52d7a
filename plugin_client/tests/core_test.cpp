// What must hold of the core without a server: core_test CHECK, silent where it holds; `core_test list` names the
// checks.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <thread>

#include "demand.h"
#include "held_notes.h"
#include "midi_backlog.h"
#include "output_ring.h"
#include "pace.h"
#include "player.h"
#include "plugin.h"
#include "prompts.h"
#include "settling.h"
#include "slots.h"
#include "spsc.h"
#include "state.h"
#include "words.h"

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            std::fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                      \
        }                                                                                      \
    } while (false)

namespace {

using namespace backline;
using Clock = std::chrono::steady_clock;
using Random = std::mt19937;

constexpr const char* kNowhere = "unix:/nonexistent/backline.sock";

uint32_t below(Random& random, uint32_t limit) {
    return std::uniform_int_distribution<uint32_t>(0, limit - 1)(random);
}

double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

// Writer and reader in threads of their own: every number arrives, once and in order.
void a_ring_passes_everything_on_in_order() {
    constexpr uint64_t kCount = 50'000;
    Spsc<uint64_t> ring(97);
    std::thread writer([&] {
        Random random(1);
        uint64_t items[40];
        for (uint64_t sent = 0; sent < kCount;) {
            size_t count = std::min<size_t>({below(random, 40), ring.room(), kCount - sent});
            for (size_t i = 0; i < count; ++i) items[i] = sent + i;
            ring.write(items, count);
            sent += count;
            if (count == 0) std::this_thread::yield();
        }
    });
    Random random(2);
    uint64_t items[40], expected = 0;
    while (expected < kCount) {
        const size_t count = std::min<size_t>(below(random, 40), ring.available());
        ring.read(items, count);
        for (size_t i = 0; i < count; ++i) CHECK(items[i] == expected++);
        if (count == 0) std::this_thread::yield();
    }
    writer.join();
    CHECK(ring.available() == 0 && ring.written() == kCount);
}

float sample_at(int64_t position, uint32_t port, uint32_t channel) {
    return static_cast<float>(position % 8191) + 0.25f * static_cast<float>(2 * port + channel);
}

std::vector<PortAudio> ports_at(int64_t position, uint32_t count, size_t ports) {
    std::vector<PortAudio> made(ports);
    for (uint32_t port = 0; port < ports; ++port)
        for (uint32_t channel = 0; channel < kChannels; ++channel)
            for (uint32_t i = 0; i < count; ++i)
                made[port].channels[channel].push_back(sample_at(position + i, port, channel));
    return made;
}

// Against a map from positions to what was laid down there: gaps, blocks that are late, early, repeated or from before.
void the_output_ring_equals_a_map_of_positions() {
    constexpr uint32_t kCapacity = 1000;
    Random random(3);
    OutputRing ring(kCapacity);
    std::map<int64_t, uint32_t> laid;  // ports
    int64_t released = 0, end = 0;
    uint64_t late = 0, expected_late = 0;
    static Wet wet;
    for (int round = 0; round < 20'000; ++round) {
        if (below(random, 2)) {
            const uint32_t count = 1 + below(random, 200), ports = 1 + below(random, 6);
            const int64_t position = std::max<int64_t>(0, end + below(random, 60) - 30);
            late += ring.write(position, count, ports_at(position, count, ports));
            for (int64_t p = position; p < position + count; ++p) {
                if (p < released)
                    ++expected_late;
                else if (p >= end && p < released + kCapacity)
                    laid[p] = ports, end = p + 1;
            }
        } else {
            const uint32_t count = 1 + below(random, kPiece);
            ring.read(released, count, wet);
            for (uint32_t i = 0; i < count; ++i) {
                const int64_t p = released + i;
                const uint32_t ports = laid.count(p) ? laid[p] : 0;
                CHECK(wet.ports[i] == std::min(ports, kStems));
                for (uint32_t channel = 0; ports && channel < kChannels; ++channel) {
                    float sum = sample_at(p, 0, channel);
                    for (uint32_t port = 1; port < ports; ++port) sum += sample_at(p, port, channel);
                    CHECK(wet.samples[0][channel][i] == sum);
                    for (uint32_t stem = 0; stem < kStems; ++stem)
                        CHECK(wet.samples[1 + stem][channel][i] == (stem < ports ? sample_at(p, stem, channel) : 0.0f));
                }
            }
            released += count;
            laid.erase(laid.begin(), laid.lower_bound(released));
        }
    }
    CHECK(late == expected_late && late > 0);
}

// The worker lays down while the audio thread takes: what is there is right, and what is in time is there.
void the_output_ring_serves_two_threads() {
    OutputRing ring(4096);
    std::atomic<int64_t> played{0};
    constexpr int64_t kEnd = 200'000;
    std::thread worker([&] {
        Random random(4);
        for (int64_t position = 0; position < kEnd;) {
            while (position > played + 2048) std::this_thread::yield();
            const uint32_t count = 1 + below(random, 500);
            ring.write(position, count, ports_at(position, count, 2));
            position += count;
        }
    });
    static Wet wet;
    uint64_t there = 0;
    Random random(5);
    for (int64_t position = 0; position < kEnd;) {
        const uint32_t count = 1 + below(random, kPiece);
        while (ring.end() < std::min(kEnd, position + count)) std::this_thread::yield();
        ring.read(position, count, wet);
        for (uint32_t i = 0; i < count; ++i) {
            if (wet.ports[i] == 0) continue;
            ++there;
            CHECK(wet.samples[2][1][i] == sample_at(position + i, 1, 1));
        }
        position += count;
        played = position;
    }
    worker.join();
    CHECK(there >= kEnd);
}

void a_state_comes_back_and_nothing_else_is_one() {
    Plugin plugin;
    plugin.set_endpoint("unix:/nowhere/some where.sock");
    plugin.set_parameter(kPack, 1);
    plugin.set_parameter(kGain, -7.25);
    plugin.set_parameter(kSeed, 12345);
    CHECK(plugin.write_text("prompt", "a M\u00e4rchen") && plugin.write_text("nothing", ""));
    const std::vector<uint8_t> saved = plugin.save_state();
    CHECK(saved == plugin.save_state());

    Plugin other;
    CHECK(other.save_state() != saved);
    const std::vector<uint8_t> before = other.save_state();
    for (size_t size = 0; size < saved.size(); ++size) CHECK(!other.load_state(saved.data(), size));
    Random random(6);
    for (int round = 0; round < 2000; ++round) {
        std::vector<uint8_t> damaged = saved;
        damaged[below(random, static_cast<uint32_t>(damaged.size()))] ^= 1 + below(random, 255);
        CHECK(!other.load_state(damaged.data(), damaged.size()));
        std::vector<uint8_t> garbage(below(random, 500));
        for (uint8_t& byte : garbage) byte = static_cast<uint8_t>(below(random, 256));
        CHECK(!other.load_state(garbage.data(), garbage.size()));
    }
    CHECK(!other.load_state(nullptr, 0));
    CHECK(other.save_state() == before);
    CHECK(other.load_state(saved.data(), saved.size()));
    CHECK(other.save_state() == saved);
    CHECK(other.parameter(kGain) == -7.25 && other.parameter(kSeed) == 12345);
}

// What a newer version keeps by name may be longer, and more, than this one reads: the rest of its project is kept.
void of_a_state_with_names_beyond_us_all_else_comes_back() {
    State newer;
    newer.endpoint = "unix:/nowhere/some where.sock";
    newer.packs.names = {"default", "passthrough", "mine"};
    for (uint32_t index = 0; index < kFirstSlot; ++index) newer.values[index] = parameters()[index].initial;
    newer.values[kPack] = 2.0;
    newer.values[kGain] = -7.25;
    newer.named_values = {{"gate", -72.0}};
    const std::vector<uint8_t> without = [&] {
        State state = newer;
        state.named_values.clear();
        return encode_state(state);
    }();
    std::vector<State> beyond(3, newer);
    beyond[0].texts = {{"prompt", "a rhodes"}, {"story", std::string(5000, 'x')}};
    for (int name = 0; name < 2000; ++name) beyond[1].texts[std::to_string(name)] = "x";
    for (int name = 0; name < 2000; ++name) beyond[2].named_values[std::to_string(name)] = 0.5;
    for (const State& state : beyond) {
        const std::vector<uint8_t> saved = encode_state(state);
        State read;
        CHECK(decode_state(saved.data(), saved.size(), read));
        CHECK(read.named_values.empty() && read.texts.empty());
        CHECK(encode_state(read) == without);
        Plugin plugin, other;
        CHECK(plugin.write_text("prompt", "of the project before") && plugin.load_state(saved.data(), saved.size()));
        CHECK(plugin.parameter(kPack) == 2.0 && plugin.parameter(kGain) == -7.25);
        CHECK(other.load_state(without.data(), without.size()) && plugin.save_state() == other.save_state());
    }
}

net::Pack pack_that_hears(const std::string& name, const std::vector<net::PackText>& texts) {
    net::Pack pack;
    pack.name = name;
    pack.texts = texts;
    return pack;
}

void a_bank_holds_what_is_suggested_until_somebody_writes_into_it() {
    const auto words = [](const Prompts& prompts) {
        std::vector<std::string> all;
        for (uint32_t slot = 0; slot < kPrompts; ++slot) all.push_back(prompts.words(slot));
        return all;
    };
    Prompts prompts;
    const std::vector<std::string> ours = words(prompts);
    CHECK(ours[0] == "vocals" && std::set<std::string>(ours.begin(), ours.end()).size() == kPrompts);
    uint32_t slot = 99;
    CHECK(prompts.take("  Drums ", slot) && slot == 1 && prompts.version() == 0);

    // Of several texts "query" counts; its default comes first, and what no slot can show does not come at all.
    const net::PackText style{"style", "loud", "", {"louder"}};
    net::PackText query{"query", "a choir", "", {"drums", "a choir", std::string(121, 'x'), "a\nb", "", " x", "\xff"}};
    const net::Pack one = pack_that_hears("one", {style, query}), other = pack_that_hears("other", {style});
    prompts.follow(one, {});
    CHECK(words(prompts) == (std::vector<std::string>{"a choir", "drums", "vocals", "bass", "piano", "guitar",
                                                      "strings", "everything but the vocals"}));
    CHECK(prompts.version() == 1 && prompts.bank().pack == "one");
    prompts.follow(pack_that_hears("deaf", {}), {});
    CHECK(prompts.bank().pack == "one");
    prompts.follow(other, {{"query", "not its own"}});
    CHECK(prompts.words(0) == "loud" && prompts.words(1) == "louder");
    prompts.follow(one, {{"query", "written before"}});
    CHECK(prompts.words(0) == "written before" && prompts.words(1) == "a choir");

    CHECK(prompts.take("a rhodes", slot) && slot == kPrompts - 1 && prompts.words(slot) == "a rhodes");
    CHECK(prompts.take("A Rhodes", slot) && prompts.words(slot) == "a rhodes");
    CHECK(prompts.take(std::string(118, 'x') + "\u00e4", slot) && slot == kPrompts - 1);
    CHECK(prompts.take("a M\u00e4rchen \U0001F3B9", slot) && prompts.words(slot) == "a M\u00e4rchen \U0001F3B9");
    const uint32_t version = prompts.version();
    prompts.follow(other, {});
    CHECK(prompts.words(0) == "written before");  // it is the user's own
    for (const std::string& bad : {std::string(), std::string(" \t"), std::string(119, 'x') + "\u00e4",
                                   std::string("a\nb"), std::string("a\0b", 3), std::string("M\xe4rchen")})
        CHECK(!prompts.take(bad, slot));
    CHECK(prompts.version() == version);
}

void a_bank_comes_back_with_its_project() {
    Plugin plugin;
    const std::vector<uint8_t> nobodys = plugin.save_state();
    double slot = 0.0;
    CHECK(plugin.parameter_value(kPrompt, "drums", slot) && plugin.save_state() == nobodys);
    plugin.set_parameter(kPrompt, slot);
    CHECK(plugin.parameter_value(kPrompt, "the \u266b of a harp", slot) && slot == kPrompts - 1);
    const std::vector<uint8_t> saved = plugin.save_state();
    Plugin other;
    CHECK(other.load_state(saved.data(), saved.size()) && other.save_state() == saved);
    CHECK(other.parameter(kPrompt) == 1.0 && other.parameter_text(kPrompt, 7) == "the \u266b of a harp");
    CHECK(other.load_state(nobodys.data(), nobodys.size()) && other.save_state() == nobodys);
    CHECK(other.parameter_text(kPrompt, 7) == Plugin().parameter_text(kPrompt, 7));

    // A pack's suggestions are kept as they were when the project was saved.
    State state;
    state.packs.names = {"default"};
    state.bank = {{"a", "b", "c", "d", "e", "f", "g", "h"}, "one"};
    std::vector<uint8_t> bytes = encode_state(state);
    State read;
    CHECK(decode_state(bytes.data(), bytes.size(), read) && read.bank.words == state.bank.words);
    CHECK(read.bank.pack == "one");
    Prompts prompts;
    prompts.set_bank(read.bank);
    prompts.follow(pack_that_hears("one", {{"query", "", "", {"other words"}}}), {});
    CHECK(prompts.words(0) == "a");
    prompts.follow(pack_that_hears("two", {{"query", "", "", {"other words"}}}), {});
    CHECK(prompts.words(0) == "other words");
    // What is no bank of ours is nobody's, and costs nothing else.
    const std::vector<std::string> eight(8, "x"), nine(9, "x");
    std::vector<std::string> endless = eight;
    endless[3] = std::string(121, 'x');
    for (const std::vector<std::string>& words : {nine, endless}) {
        state.bank.words = words;
        state.named_values = {{"gate", -72.0}};
        bytes = encode_state(state);
        CHECK(decode_state(bytes.data(), bytes.size(), read) && read.bank.words.empty());
        CHECK(read.named_values == state.named_values);
    }
}

void a_text_is_utf_8_of_512_bytes_and_nothing_else() {
    const std::string zero("\0", 1);
    for (const std::string& good : {std::string(), std::string(512, 'x'), std::string("\u00e4\u266b\U0001F3B9"),
                                    std::string("\xed\x9f\xbf\xf4\x8f\xbf\xbf")})
        CHECK(is_text(good));
    // Too long, NUL, cut short, overlong, a surrogate, beyond Unicode, Latin-1.
    for (const std::string& bad :
         {std::string(513, 'x'), zero, std::string("\xe2\x99"), std::string("\xc0\xaf"), std::string("\xe0\x80\xaf"),
          std::string("\xf0\x80\x80\xaf"), std::string("\xed\xa0\x80"), std::string("\xf4\x90\x80\x80"),
          std::string("M\xe4rchen"), std::string("\x80")})
        CHECK(!is_text(bad));
    Plugin plugin;
    CHECK(!plugin.write_text("prompt", zero) && !plugin.write_text(std::string("\xff"), ""));
    for (size_t text = 0; text < kMostTexts; ++text) CHECK(plugin.write_text(std::to_string(text), "x"));
    CHECK(plugin.write_text("0", "y") && !plugin.write_text("one too many", "x"));
}

net::PackParameter pack_parameter(const std::string& name, double initial, double minimum, double maximum,
                                  bool integer = false) {
    net::PackParameter parameter;
    parameter.name = name;
    parameter.default_value = initial;
    parameter.minimum = minimum;
    parameter.maximum = maximum;
    parameter.integer = integer;
    return parameter;
}

void slots_are_the_packs_own_values_by_name() {
    net::Pack pack;
    pack.parameters = {pack_parameter("guidance", 1, 0, 10), pack_parameter("gate", -96, -96, 0),
                       pack_parameter("style", 0, 0, 2, true), pack_parameter("no range", 0, 0, 0),
                       pack_parameter("endless", 0, 0, std::numeric_limits<double>::infinity()),
                       pack_parameter("depth", 0.7, 0.1, 1.0)};
    pack.parameters[1].unit = "dB";
    pack.parameters[2].labels = {"plain", "swing", "wild"};
    const std::vector<net::PackParameter> found = slots_of(pack);
    CHECK(found.size() == 3 && found[0].name == "gate" && found[1].name == "style" && found[2].name == "depth");

    Slots slots;
    slots.set_value(0, 0.5);
    CHECK(slots.used() == 0 && slots.value(0) == 0.0);
    CHECK(slots.bind(pack) && !slots.bind(pack) && slots.renames() == 1 && slots.used() == 3);
    CHECK(slots.named().empty() && slots.value(0) == 0.0 && slot_to_plain(found[2], slots.value(2)) == 0.7);
    slots.set_value(0, 0.25);
    slots.set_value(1, 0.4);
    CHECK(slots.value(1) == 0.5 && slot_to_text(found[1], 0.4) == "swing");
    CHECK(slot_to_text(found[0], 0.25) == "-72.00 dB");
    double value = 0.0;
    CHECK(slot_from_text(found[0], "-48", value) && value == 0.5 && slot_from_text(found[0], "\u221224 dB", value));
    CHECK(!slot_from_text(found[0], "1", value) && !slot_from_text(found[1], "0.5", value));
    CHECK(slots.named() == (NamedValues{{"gate", -72.0}, {"style", 1.0}}));

    uint32_t binding = 0, other = 0;
    CHECK(slots.read(0, value, binding) && value == 0.25);
    std::swap(pack.parameters[1], pack.parameters[2]);  // the pack has changed: each finds its own again
    pack.parameters[2].minimum = -60;
    CHECK(slots.bind(pack) && slots.value(0) == 0.5 && slots.value(1) == 0.0);
    CHECK(slots.read(0, value, other) && other != binding && slots.named().at("gate") == -72.0);
    CHECK(slots.bind({}) && slots.used() == 0 && slots.named().size() == 2);
    pack.parameters.clear();
    for (int count = 0; count < 20; ++count) pack.parameters.push_back(pack_parameter(std::to_string(count), 0, 0, 1));
    CHECK(slots_of(pack).size() == kSlots);
}

void text_comes_back_as_the_value_and_the_same_text() {
    Plugin plugin;
    Random random(7);
    for (uint32_t index = 0; index < kParameterCount; ++index) {
        const ParameterInfo& info = parameters()[index];
        const double most = plugin.maximum(index);
        for (int round = 0; round < 500; ++round) {
            double value = std::uniform_real_distribution<double>(info.minimum, most)(random);
            if (round == 0) value = info.minimum;
            if (round == 1) value = most;
            if (round == 2) value = info.initial;
            const std::string text = plugin.parameter_text(index, value);
            double back = 0.0;
            CHECK(!text.empty() && plugin.parameter_value(index, text, back));
            CHECK(back >= info.minimum && back <= most);
            CHECK(plugin.parameter_text(index, back) == text);
            if (info.stepped) CHECK(back == std::round(value));
        }
        double ignored = 0.0;
        CHECK(!plugin.parameter_value(index, "", ignored));
        CHECK(plugin.parameter_value(index, "nonsense", ignored) == (index == kPrompt));
    }
    double value = 0.0;
    CHECK(plugin.parameter_text(kPack, 1) == "passthrough" && plugin.parameter_value(kPack, "default", value));
    CHECK(value == 0.0 && plugin.parameter_text(kLatencyBudget, 2.4) == "2.400 s");
    CHECK(plugin.parameter_value(kDryWet, "25 %", value) && value == 0.25);
    CHECK(plugin.parameter_value(kKey, "a minor", value) && value == 22.0);
}

// Blocks of any size, in place: the output is the input, exactly the reported latency later.
void without_a_server_dry_comes_at_the_reported_latency() {
    for (const double rate : {8000.0, 44100.0, 192000.0}) {
        for (const double budget : {0.0, 0.01, 0.5}) {
            Plugin plugin;
            plugin.set_endpoint(kNowhere);
            plugin.set_parameter(kLatencyBudget, budget);
            CHECK(plugin.activate(rate, 64));
            const uint32_t latency = plugin.latency_samples(rate);
            CHECK(latency == std::lround(budget * rate));
            Random random(8);
            std::uniform_real_distribution<float> noise(-1.0f, 1.0f);
            std::vector<float> heard, played;
            while (heard.size() < static_cast<size_t>(rate)) {
                std::vector<float> audio(below(random, 3000));
                for (float& sample : audio) sample = noise(random);
                heard.insert(heard.end(), audio.begin(), audio.end());
                Block block;
                block.frames = static_cast<uint32_t>(audio.size());
                block.main_input[0] = block.outputs[0][0] = audio.data();
                plugin.process(block);
                played.insert(played.end(), audio.begin(), audio.end());
            }
            for (size_t i = 0; i < played.size(); ++i) CHECK(played[i] == (i < latency ? 0.0f : heard[i - latency]));
        }
    }
}

void without_a_server_nothing_waits() {
    Plugin plugin;
    plugin.set_endpoint(kNowhere);
    for (int round = 0; round < 5; ++round) {
        CHECK(plugin.activate(48000, 512));
        std::vector<float> audio(512);
        Block block;
        block.frames = 512;
        block.main_input[0] = block.outputs[0][0] = audio.data();
        for (int i = 0; i < 50 * round; ++i) plugin.process(block);
        std::this_thread::sleep_for(std::chrono::milliseconds(70 * round));
        const auto begin = Clock::now();
        plugin.deactivate();
        CHECK(seconds_since(begin) < 0.1);
        CHECK(plugin.status() == Status::idle);
    }
}

void a_reset_forgets_what_is_under_way() {
    Plugin plugin;
    plugin.set_endpoint(kNowhere);
    plugin.set_parameter(kLatencyBudget, 0.01);
    CHECK(plugin.activate(48000, 480));
    std::vector<float> audio(480, 1.0f), out(480);
    Block block;
    block.frames = 480;
    block.main_input[0] = audio.data();
    block.outputs[0][0] = out.data();
    plugin.process(block);
    plugin.reset();
    plugin.process(block);
    for (const float sample : out) CHECK(sample == 0.0f);
    plugin.process(block);
    CHECK(out[479] == 1.0f);
}

void what_cannot_be_served_is_refused() {
    Plugin plugin;
    plugin.set_endpoint(kNowhere);
    CHECK(!plugin.activate(7999, 64) && !plugin.activate(192001, 64) && !plugin.activate(std::nan(""), 64));
    CHECK(!plugin.activate(48000, 0) && !plugin.active());
    CHECK(plugin.activate(48000, 64) && !plugin.activate(48000, 64));
    CHECK(!plugin.wants_restart());
    plugin.set_parameter(kLatencyBudget, 1.0);
    CHECK(!plugin.wants_restart() && plugin.latency_samples(48000) == 144000);  // it may yet move on
    plugin.set_parameter(kMode, 1.0);
    const std::vector<uint8_t> live = plugin.save_state();
    CHECK(plugin.load_state(live.data(), live.size()) && plugin.wants_restart());
    plugin.deactivate();
    CHECK(!plugin.wants_restart() && plugin.latency_samples(48000) == 0);
}

// ---- with a clock that is turned by hand ---------------------------------------------------------------------------

Clock::time_point at(double seconds) {
    const std::chrono::duration<double> since(1000 + seconds);
    return Clock::time_point(std::chrono::duration_cast<Clock::duration>(since));
}

// Seconds of audio that a host pulls, in bursts of `burst` blocks, at `speed` times real time, before it is found to
// hurry; the whole song where it never is.
double pulled_before_hurry(double speed, uint32_t frames, int burst, double song = 20.0) {
    constexpr double kRate = 48000.0;
    Pace pace(kRate, frames);
    double pulled = 0.0;
    while (pulled < song) {
        const double begin = pulled / speed;
        for (int block = 0; block < burst; ++block) {
            pace.pull(at(begin + block * 1e-5), frames);
            if (pace.hurried()) return pulled;
            pulled += frames / kRate;
        }
    }
    return pulled;
}

void who_pulls_faster_than_time_is_found_and_nobody_else() {
    for (const uint32_t frames : {1u, 64u, 512u, 4096u}) {
        for (const double speed : {2.0, 10.0, 1000.0}) CHECK(pulled_before_hurry(speed, frames, 1) < 1.0);
        for (const double speed : {0.5, 1.0, 1.001}) {
            CHECK(pulled_before_hurry(speed, frames, 1) >= 20.0);
            CHECK(pulled_before_hurry(speed, frames, 2) >= 20.0);
        }
    }
    CHECK(pulled_before_hurry(1.0, 64, 128) >= 20.0);   // a buffer of 8192 in small blocks
    CHECK(pulled_before_hurry(1.0, 128, 75) >= 20.0);   // a prefetch of 200 ms
    CHECK(pulled_before_hurry(1.0, 8192, 1) >= 20.0);

    // Delays are primed at once, then it goes on in time: the hurry is over within .3 s.
    Pace pace(48000.0, 512);
    double now = 0.0;
    for (int block = 0; block < 281; ++block) pace.pull(at(now += 1e-4), 512);
    CHECK(pace.hurried());
    for (int block = 0; block < 29; ++block) pace.pull(at(now += 512 / 48000.0), 512);
    CHECK(!pace.hurried());

    // A machine that stood still for most of a second catches up: that is no hurry.
    for (int block = 0; block < 94; ++block) pace.pull(at(now += 512 / 48000.0), 512);
    pace.pull(at(now += 0.8), 512);
    for (int block = 0; block < 75; ++block) {
        pace.pull(at(now += 1e-4), 512);
        CHECK(!pace.hurried());
    }

    // What we have waited ourselves is none of the host's time: a bounce through a slow server stays one.
    pace.reset();
    for (int block = 0; block < 1000; ++block) {
        pace.pull(at(now), 512);
        CHECK(block < 50 || pace.hurried());
        pace.wait(std::chrono::milliseconds(50));
        now += 0.051;
    }
}

// An instance that is looked at every 20 ms.
struct Watched {
    Demand demand;
    double now = 0.0;
    uint64_t pulled = 0, sounded = 0;
    Rolling rolling = Rolling::unknown;
    bool calls = true, sound = false, bypassed = false;

    bool wanted_after(double seconds) {
        for (const double end = now + seconds; now < end; now += 0.02) {
            pulled += calls;
            sounded += sound;
            demand.look(at(now), pulled, sounded, rolling, bypassed);
        }
        return demand.wanted();
    }
};

void a_session_is_wanted_by_those_who_play() {
    Watched plain;
    CHECK(plain.wanted_after(600));  // no transport is told: silence is music too
    plain.calls = false;
    CHECK(plain.wanted_after(1.5) && !plain.wanted_after(1.0));
    plain.calls = true;
    const uint64_t before = plain.demand.calls();
    CHECK(plain.wanted_after(0.02) && plain.demand.calls() == before + 1);
    plain.bypassed = true;
    CHECK(plain.wanted_after(1.5) && !plain.wanted_after(1.0));
    plain.bypassed = false;
    CHECK(plain.wanted_after(0.02));

    Watched song;
    song.rolling = Rolling::playing;
    CHECK(song.wanted_after(600));  // a rest of ten minutes
    song.rolling = Rolling::stopped;
    CHECK(song.wanted_after(1.5));
    song.rolling = Rolling::playing;
    CHECK(song.wanted_after(1.0));  // a short stop keeps it
    song.rolling = Rolling::stopped;
    CHECK(!song.wanted_after(2.5));
    const uint64_t asked = song.demand.calls();
    song.rolling = Rolling::playing;
    CHECK(song.wanted_after(0.02) && song.demand.calls() > asked);

    Watched rehearsal;  // sings while the transport stands still
    rehearsal.rolling = Rolling::stopped;
    CHECK(!rehearsal.wanted_after(3));
    rehearsal.sound = true;
    CHECK(rehearsal.wanted_after(0.02) && rehearsal.wanted_after(60));
    rehearsal.sound = false;
    CHECK(rehearsal.wanted_after(15));  // between two phrases
    rehearsal.sound = true;
    CHECK(rehearsal.wanted_after(1));
    rehearsal.sound = false;
    CHECK(!rehearsal.wanted_after(25));
}

// ---- MIDI without room ---------------------------------------------------------------------------------------------

// Against what a synthesizer would know in the end: which notes still sound, and where its controllers stand.
struct Synthesizer {
    std::set<int> sounding;
    std::map<int, int> controllers;

    void take(const uint8_t* midi) {
        const int kind = midi[0] & 0xf0, channel = midi[0] & 0x0f;
        if (kind == 0x90 && midi[2] > 0)
            sounding.insert(channel << 7 | midi[1]);
        else if (kind == 0x80 || kind == 0x90)
            sounding.erase(channel << 7 | midi[1]);
        else if (kind == 0xb0)
            controllers[channel << 8 | midi[1]] = midi[2];
        else
            controllers[channel << 8 | kind] = kind == 0xe0 ? midi[1] | midi[2] << 7 : midi[1];
    }
};

// Through the audio thread's half, with a ring that a stalled worker does not empty.
void of_midi_that_finds_no_room_no_end_of_a_note_is_lost() {
    Settings settings;
    Exchange exchange(Activation{48000.0, 256, 480, false});
    auto player = std::make_unique<Player>(settings, exchange);
    Random random(9);
    Synthesizer played, heard;
    std::vector<float> audio(64);
    const auto play = [&](int messages) {
        std::vector<Event> events;
        for (int i = 0; i < messages; ++i) {
            constexpr uint8_t kinds[] = {0x80, 0x90, 0x90, 0xb0, 0xb0, 0xc0, 0xd0, 0xe0};
            Event event;
            event.kind = Event::Kind::midi;
            event.midi[0] = static_cast<uint8_t>(kinds[below(random, 8)] | below(random, 16));
            event.midi[1] = static_cast<uint8_t>(below(random, 128));
            event.midi[2] = static_cast<uint8_t>(below(random, 128));
            event.midi_size = (event.midi[0] & 0xe0) == 0xc0 ? 2 : 3;
            played.take(event.midi);
            events.push_back(event);
        }
        Block block;
        block.frames = 64;
        block.main_input[0] = audio.data();
        block.events = events.data();
        block.event_count = events.size();
        player->process(block);
    };
    const auto drain = [&] {
        while (exchange.changes.available() > 0) {
            const Change change = exchange.changes.front();
            exchange.changes.skip(1);
            if (change.kind == Change::Kind::midi) heard.take(change.midi);
        }
    };
    for (int block = 0; block < 20; ++block) play(1000);  // ten times what there is room for
    CHECK(exchange.lost_midi > 0);
    for (int block = 0; block < 5; ++block) drain(), play(0);
    drain();
    for (const int note : heard.sounding) CHECK(played.sounding.count(note) == 1);
    CHECK(heard.controllers == played.controllers);
    const uint64_t lost = exchange.lost_midi;
    for (int block = 0; block < 100; ++block) play(100), drain();
    CHECK(exchange.lost_midi == lost);
    CHECK(heard.controllers == played.controllers);
}

// ---- MIDI that a session has missed --------------------------------------------------------------------------------

using Messages = std::vector<std::vector<uint8_t>>;

HeldNotes after(const Messages& messages, HeldNotes held = {}) {
    for (const std::vector<uint8_t>& message : messages) {
        const uint8_t midi[3] = {message[0], message[1], message[2]};
        held.take(midi);
    }
    return held;
}

Messages told(const HeldNotes& held) {
    Messages messages;
    for (uint8_t channel = 0; channel < HeldNotes::kChannelsOfMidi; ++channel) {
        const std::vector<uint8_t> bytes = held.told(channel);
        for (size_t at = 0; at < bytes.size(); at += 3) messages.push_back({bytes[at], bytes[at + 1], bytes[at + 2]});
    }
    return messages;
}

void what_is_held_is_told_to_another_session() {
    const Messages chord = {{0x91, 60, 100}, {0x91, 64, 90}, {0x93, 67, 80}};
    CHECK(told(after({})).empty() && told(after(chord)) == chord);
    CHECK(told(after({{0x81, 60, 0}, {0x91, 64, 0}}, after(chord))) == Messages{chord[2]});
    const HeldNotes pedalled = after({{0xb1, 64, 127}, {0x81, 60, 0}, {0xb1, 7, 100}, {0xe1, 64, 0}}, after(chord));
    const Messages let_go = {chord[0], chord[1], {0xb1, 64, 127}, {0x81, 60, 0}, chord[2]};
    CHECK(told(pedalled) == let_go);
    CHECK(told(after({{0xb1, 64, 63}}, pedalled)) == Messages({chord[1], chord[2]}));
    CHECK(told(after({{0xb1, 121, 0}}, pedalled)) == Messages({chord[1], chord[2]}));  // the pedal is a controller
    for (const uint8_t silence : {120, 123}) CHECK(told(after({{0xb1, silence, 0}}, pedalled)) == Messages{chord[2]});
}

// Whoever is told knows as much as who has heard it all, and goes on knowing it.
void who_is_told_what_is_held_knows_all() {
    Random random(5);
    HeldNotes held, other;
    for (int step = 0; step < 20'000; ++step) {
        constexpr uint8_t kinds[] = {0x80, 0x90, 0x90, 0x90, 0xb0}, controllers[] = {64, 64, 64, 7, 120, 121, 123};
        std::vector<uint8_t> message = {static_cast<uint8_t>(kinds[below(random, 5)] | below(random, 16)), 0, 0};
        message[1] = static_cast<uint8_t>(message[0] < 0xb0 ? below(random, 128) : controllers[below(random, 7)]);
        message[2] = static_cast<uint8_t>(below(random, 128));
        held = after({message}, held);
        other = after({message}, other);
        CHECK(told(other) == told(held));
        if (step % 64 == 0) other = after(told(held));
    }
}

// Whether no character of UTF-8 is cut in two.
bool whole_characters(const std::string& text) {
    for (size_t at = 0; at < text.size();) {
        const auto first = static_cast<uint8_t>(text[at++]);
        const int following = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        for (int i = 0; i < following; ++i, ++at)
            if (at >= text.size() || (text[at] & 0xc0) != 0x80) return false;
    }
    return true;
}

// Whatever is said: VST3's 127 units hold the status's name and what to do, however long the rest is.
void every_status_says_what_to_do_within_what_vst3_shows() {
    std::string length;  // of characters of two, three and four bytes
    while (length.size() < 600) length += "\u00e4\u20ac\U0001f3b5 long ";
    std::vector<std::pair<Words, std::string>> said;  // and the remedy
    for (const std::string& name : {std::string("mine"), length}) {
        said = {{words::inactive(), "switch the plugin on"},
                {words::looking(), "looking for a server"},
                {words::idle(), "plays again with the first sound or play"},
                {words::opening(name), "wait until the server has opened"},
                {words::own_problem(name), "begins anew in a second"}};
        for (const bool bounces : {false, true}) {
            const std::string then = bounces ? "; bounce again" : "";
            said.push_back({words::no_server({net::kUnavailable, name}, bounces), "start `backline serve`" + then});
            said.push_back({words::no_server({net::kInvalidArgument, name}, bounces), "write unix:/path or host:port"});
            said.push_back({words::no_server({net::kUnauthenticated, name}, bounces), "look at servers.toml" + then});
            for (int code = 0; code <= 16; ++code) {
                const Words ended = words::ended({code, name}, bounces, !bounces);
                CHECK(ended.brief.find(then) != std::string::npos);
                said.push_back({ended, code == net::kNotFound          ? "choose another Pack"
                                       : code == net::kResourceExhausted ? "end another session"
                                       : code == net::kUnavailable       ? "start `backline serve`"
                                       : code == net::kUnauthenticated   ? "write a key into servers.toml"
                                       : code == net::kPermissionDenied  ? "choose a Pack that your key plays"
                                                                         : ""});
            }
        }
        said.push_back({words::too_late_for_bounce(2.44, 1.0, false), "raise Latency budget to 2.5 s"});
        said.push_back({words::too_late_for_bounce(12.0, 10.0, false), "lower Visibility or Chunk"});
        said.push_back({words::too_late_for_bounce(12.0, 10.0, true), "use a nearer or faster server"});
        words::Play play;
        play.pack = name;
        play.seed = 999'999;
        play.needed_seconds = 2.7;
        play.budget_seconds = 10.0;
        play.lost_midi = 1u << 31;
        said.push_back({words::playing(play), "seed 999999; needs 2.700 s of 10.000 s"});
        play.learnt = "4/4", play.metre = "6/8";
        said.push_back({words::playing(play), "seed 999999; needs 2.700 s of 10.000 s; knows 4/4, not 6/8"});
        CHECK(said.back().first.whole.find("in 6/8 it keeps your beats") != std::string::npos);
        play.missed = true;
        said.push_back({words::playing(play), "give the server's machine less to do"});
        play.too_small = true;
        said.push_back({words::playing(play), "raise Latency budget to 2.7 s, or lower Visibility or Chunk"});
        play.live = true;
        said.push_back({words::playing(play), "lower Visibility or Chunk, or set Mode to follow"});
        play.advice = net::Advice{net::Verdict::infeasible, 0.2, -1.0, 3.0, "network 900 ms"};
        said.push_back({words::playing(play), "use a nearer or faster server, or set Mode to follow"});
        play.too_small = false;
        said.push_back({words::playing(play), "use a nearer or faster server, or a smaller pack"});
        CHECK(said.back().first.whole.find("infeasible (network 900 ms)") != std::string::npos);
        play.advice->verdict = net::Verdict::tight;
        said.push_back({words::playing(play), "give the server's machine less to do"});
        play.cut = true;
        said.push_back({words::playing(play), "in nginx, client_max_body_size 0"});
        const size_t plain = said.size();
        for (size_t index = 0; index < plain; ++index)
            said.push_back({words::hurried(123.4, said[index].first), "bounce again, offline or in real time"});
        for (const auto& [words, remedy] : said) {
            CHECK(!words.whole.empty() && !words.brief.empty());
            CHECK(words.brief.rfind(remedy, 0) == 0 && words.brief.size() <= kBrief);
            CHECK(whole_characters(words.brief));
        }
    }
    for (uint32_t status = 0; status <= parameters()[kStatus].maximum; ++status)
        CHECK(parameter_to_text(kStatus, status).size() + 2 + kBrief <= 127);
}

// Ahead of the clock as a bounce is, behind it as a host that does not play, and while it moves: never.
void what_moves_settles_by_the_song_or_by_the_clock() {
    Settling settling;
    uint64_t value = 1;
    settling.look(value, 0.0, at(0));
    for (int step = 1; step <= 300; ++step) settling.look(++value, 0.1, at(0.01 * step));
    CHECK(!settling.stands(at(3.5)));  // moved for 30 s of the song, 3 s of the clock
    for (int step = 0; step < 9; ++step) settling.look(value, 0.1, at(3));
    CHECK(!settling.stands(at(3)));
    settling.look(value, 0.11, at(3));
    CHECK(settling.stands(at(3)));  // by the song
    settling.look(++value, 0.0, at(4));
    CHECK(!settling.stands(at(4.9)) && settling.stands(at(5.1)));  // by the clock
    settling.look(++value, 0.0, at(6));
    settling.stand();
    CHECK(settling.stands(at(6)));  // deliberately
}

#define ENTRY(name) \
    { #name, name }
const std::map<std::string, void (*)()> kChecks = {
    ENTRY(a_ring_passes_everything_on_in_order),
    ENTRY(the_output_ring_equals_a_map_of_positions),
    ENTRY(the_output_ring_serves_two_threads),
    ENTRY(a_state_comes_back_and_nothing_else_is_one),
    ENTRY(of_a_state_with_names_beyond_us_all_else_comes_back),
    ENTRY(a_bank_holds_what_is_suggested_until_somebody_writes_into_it),
    ENTRY(a_bank_comes_back_with_its_project),
    ENTRY(text_comes_back_as_the_value_and_the_same_text),
    ENTRY(a_text_is_utf_8_of_512_bytes_and_nothing_else),
    ENTRY(slots_are_the_packs_own_values_by_name),
    ENTRY(without_a_server_dry_comes_at_the_reported_latency),
    ENTRY(without_a_server_nothing_waits),
    ENTRY(a_reset_forgets_what_is_under_way),
    ENTRY(what_cannot_be_served_is_refused),
    ENTRY(who_pulls_faster_than_time_is_found_and_nobody_else),
    ENTRY(a_session_is_wanted_by_those_who_play),
    ENTRY(what_moves_settles_by_the_song_or_by_the_clock),
    ENTRY(every_status_says_what_to_do_within_what_vst3_shows),
    ENTRY(of_midi_that_finds_no_room_no_end_of_a_note_is_lost),
    ENTRY(what_is_held_is_told_to_another_session),
    ENTRY(who_is_told_what_is_held_knows_all),
};

}  // namespace

int main(int argc, char** argv) {
    const std::string name = argc == 2 ? argv[1] : "list";
    if (name == "list") {
        for (const auto& [check, function] : kChecks) std::puts(check.c_str());
        return 0;
    }
    const auto found = kChecks.find(name);
    CHECK(found != kChecks.end());
    found->second();
}
