// What must hold of the core without a server: core_test CHECK, silent where it holds; `core_test list` names the
// checks.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "output_ring.h"
#include "plugin.h"
#include "spsc.h"
#include "state.h"

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
    plugin.set_endpoint("unix:/tmp/some where.sock");
    plugin.set_parameter(kPack, 1);
    plugin.set_parameter(kGain, -7.25);
    plugin.set_parameter(kSeed, 12345);
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

void text_comes_back_as_the_value_and_the_same_text() {
    Plugin plugin;
    Random random(7);
    for (uint32_t index = 0; index < kParameterCount; ++index) {
        const ParameterInfo& info = parameters()[index];
        for (int round = 0; round < 500; ++round) {
            double value = std::uniform_real_distribution<double>(info.minimum, info.maximum)(random);
            if (round == 0) value = info.minimum;
            if (round == 1) value = info.maximum;
            if (round == 2) value = info.initial;
            const std::string text = plugin.parameter_text(index, value);
            double back = 0.0;
            CHECK(!text.empty() && plugin.parameter_value(index, text, back));
            CHECK(back >= info.minimum && back <= info.maximum);
            CHECK(plugin.parameter_text(index, back) == text);
            if (info.stepped) CHECK(back == std::round(value));
        }
        double ignored = 0.0;
        CHECK(!plugin.parameter_value(index, "", ignored) && !plugin.parameter_value(index, "nonsense", ignored));
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
    CHECK(plugin.wants_restart() && plugin.latency_samples(48000) == 144000);
    plugin.set_parameter(kMode, 1.0);
    plugin.deactivate();
    CHECK(!plugin.wants_restart() && plugin.latency_samples(48000) == 0);
}

#define ENTRY(name) \
    { #name, name }
const std::map<std::string, void (*)()> kChecks = {
    ENTRY(a_ring_passes_everything_on_in_order),
    ENTRY(the_output_ring_equals_a_map_of_positions),
    ENTRY(the_output_ring_serves_two_threads),
    ENTRY(a_state_comes_back_and_nothing_else_is_one),
    ENTRY(text_comes_back_as_the_value_and_the_same_text),
    ENTRY(without_a_server_dry_comes_at_the_reported_latency),
    ENTRY(without_a_server_nothing_waits),
    ENTRY(a_reset_forgets_what_is_under_way),
    ENTRY(what_cannot_be_served_is_refused),
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
