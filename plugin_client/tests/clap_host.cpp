// A CLAP host with real threads: plays raw audio through the plugin and says what it saw. For the tests in
// tests/plugin, which also run it with sanitizers.
//
//     clap_host PLUGIN.clap [option value]...
//         --set NAME=TEXT      a parameter, as its user would write it; any number of times
//         --input FILE         interleaved stereo float32; without it noise
//         --output FILE        the main output from the input's first sample on, as long as the input and the latency
//         --seconds S          of the input at most; 10
//         --rate R, --block B  48000 and 128
//         --tempo T            of the transport, which starts to play with the input; 120
//         --await S            plays silence before, at most S seconds, until the status is "playing"
//         --paced 1            as a sound card would; otherwise as fast as it goes
//         --offline 1          bounces
//         --instances N        of the plugin, each with an audio thread of its own; the output is the first one's
//         --restless 1         meanwhile calls whatever else a host may call, at random
#include <clap/entry.h>
#include <clap/ext/latency.h>
#include <clap/ext/params.h>
#include <clap/ext/state.h>
#include <clap/plugin-factory.h>
#include <dlfcn.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../clap/extensions.h"
#include "parameters.h"

// Of realtime_guard.cpp, where a test has preloaded it: what a thread must not do between 1 and 0 ends the program.
extern "C" __attribute__((weak)) void backline_realtime(int on);

namespace {

using Clock = std::chrono::steady_clock;
constexpr uint32_t kChannels = 2, kInputs = 2, kOutputs = 6;

struct Options {
    std::multimap<std::string, std::string> given;

    std::string text(const char* name, const char* otherwise = "") const {
        const auto found = given.find(name);
        return found == given.end() ? otherwise : found->second;
    }
    double number(const char* name, double otherwise) const {
        const auto found = given.find(name);
        return found == given.end() ? otherwise : std::stod(found->second);
    }
};

[[noreturn]] void fail(const std::string& why) {
    std::fprintf(stderr, "clap_host: %s\n", why.c_str());
    std::exit(1);
}

// Room for the events of one block.
class Events {
  public:
    void add_parameter(clap_id id, double value) {
        clap_event_param_value_t event{};
        event.header = {sizeof event, 0, CLAP_CORE_EVENT_SPACE_ID, CLAP_EVENT_PARAM_VALUE, 0};
        event.param_id = id;
        event.note_id = event.port_index = event.channel = event.key = -1;
        event.value = value;
        add(event);
    }
    void add_note(bool on, int16_t key) {
        clap_event_note_t event{};
        event.header = {sizeof event, 0, CLAP_CORE_EVENT_SPACE_ID,
                        static_cast<uint16_t>(on ? CLAP_EVENT_NOTE_ON : CLAP_EVENT_NOTE_OFF), 0};
        event.note_id = -1;
        event.key = key;
        event.velocity = 0.8;
        add(event);
    }
    void clear() { events_.clear(); }
    const clap_input_events_t* list() const { return &list_; }

  private:
    template <typename Event>
    void add(const Event& event) {
        std::vector<unsigned char> bytes(sizeof event);
        std::memcpy(bytes.data(), &event, sizeof event);
        events_.push_back(std::move(bytes));
    }
    static uint32_t size(const clap_input_events_t* list) {
        return static_cast<uint32_t>(static_cast<Events*>(list->ctx)->events_.size());
    }
    static const clap_event_header_t* get(const clap_input_events_t* list, uint32_t index) {
        return reinterpret_cast<const clap_event_header_t*>(static_cast<Events*>(list->ctx)->events_[index].data());
    }

    std::vector<std::vector<unsigned char>> events_;
    clap_input_events_t list_{this, size, get};
};

bool take_no_event(const clap_output_events_t*, const clap_event_header_t*) {
    return true;
}
const clap_output_events_t kOutputEvents{nullptr, take_no_event};

// One instance, its audio thread, and what it asked for.
class Hosted {
  public:
    Hosted(const clap_plugin_factory_t* factory, const Options& options, const std::vector<float>& input)
        : options_(options),
          input_(input),
          rate_(options.number("--rate", 48000)),
          block_(static_cast<uint32_t>(options.number("--block", 128))) {
        plugin_ = factory->create_plugin(factory, &host_, factory->get_plugin_descriptor(factory, 0)->id);
        if (!plugin_ || !plugin_->init(plugin_)) fail("no plugin was made");
        params_ = extension<clap_plugin_params_t>(CLAP_EXT_PARAMS);
        set_parameters();
        extension<backline::clap::RenderExtension>(backline::clap::kRenderExtension)
            ->set(plugin_, options.number("--offline", 0) != 0 ? 1 : 0);
    }
    ~Hosted() { plugin_->destroy(plugin_); }
    Hosted(const Hosted&) = delete;

    void start() {
        if (!plugin_->activate(plugin_, rate_, 1, block_)) fail("activate was refused");
        latency_ = extension<clap_plugin_latency_t>(CLAP_EXT_LATENCY)->get(plugin_);
        stop_ = false;
        audio_ = std::thread([this] { play(); });
    }
    void stop() {
        stop_ = true;
        audio_.join();
        const auto begin = Clock::now();
        plugin_->deactivate(plugin_);
        const double milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
        slowest_deactivate_ = std::max(slowest_deactivate_, milliseconds);
    }
    bool done() const { return done_; }

    // The main thread's turn.
    void turn(std::mt19937& random) {
        if (wants_callback_.exchange(false)) plugin_->on_main_thread(plugin_);
        if (wants_restart_.exchange(false) && !done_) {
            stop();
            start();
        }
        const std::string status = status_text();
        if (status != seen_) std::printf("status %s\n", (seen_ = status).c_str());
        playing_ = status.rfind("playing", 0) == 0;
        if (options_.number("--restless", 0) == 0) return;
        char text[CLAP_NAME_SIZE];
        double value = 0.0;
        const clap_id id = random() % params_->count(plugin_);
        params_->get_value(plugin_, id, &value);
        if (params_->value_to_text(plugin_, id, value, text, sizeof text)) {
            params_->text_to_value(plugin_, id, text, &value);
        }
        extension<clap_plugin_latency_t>(CLAP_EXT_LATENCY)->get(plugin_);
        extension<backline::clap::TailExtension>(backline::clap::kTailExtension)->get(plugin_);
        if (random() % 8 == 0) save_and_load();
    }

    void report() const {
        std::vector<double> sorted = process_seconds_;
        std::sort(sorted.begin(), sorted.end());
        const auto at = [&sorted](double share) {
            return sorted.empty() ? 0.0 : 1e6 * sorted[static_cast<size_t>(share * (sorted.size() - 1))];
        };
        std::printf("latency %u\npreroll %zu\nblocks %zu\n", latency_, preroll_, sorted.size());
        std::printf("underruns %zu\n", underruns_);
        std::printf("process_us_p50 %.1f\nprocess_us_p99 %.1f\nprocess_us_max %.1f\n", at(0.5), at(0.99), at(1.0));
        std::printf("deactivate_ms_max %.1f\n", slowest_deactivate_);
    }
    const std::vector<float>& output() const { return output_; }

  private:
    template <typename Extension>
    const Extension* extension(const char* id) const {
        const auto* found = static_cast<const Extension*>(plugin_->get_extension(plugin_, id));
        if (!found) fail(std::string("the plugin has no ") + id);
        return found;
    }

    static Hosted& self(const clap_host_t* host) { return *static_cast<Hosted*>(host->host_data); }
    static const void* get_extension(const clap_host_t*, const char*) { return nullptr; }
    static void request_restart(const clap_host_t* host) { self(host).wants_restart_ = true; }
    static void request_process(const clap_host_t*) {}
    static void request_callback(const clap_host_t* host) { self(host).wants_callback_ = true; }

    void set_parameters() {
        Events events;
        const auto [first, last] = options_.given.equal_range("--set");
        for (auto setting = first; setting != last; ++setting) {
            const size_t equals = setting->second.find('=');
            const std::string name = setting->second.substr(0, equals), text = setting->second.substr(equals + 1);
            clap_param_info_t info;
            double value;
            uint32_t index = 0;
            while (params_->get_info(plugin_, index, &info) && name != info.name) ++index;
            if (index == params_->count(plugin_) || !params_->text_to_value(plugin_, info.id, text.c_str(), &value)) {
                fail("no such parameter or value: " + setting->second);
            }
            events.add_parameter(info.id, value);
        }
        params_->flush(plugin_, events.list(), &kOutputEvents);
    }

    std::string status_text() const {
        char text[CLAP_NAME_SIZE];
        double value = 0.0;
        params_->get_value(plugin_, backline::kStatus, &value);
        return params_->value_to_text(plugin_, backline::kStatus, value, text, sizeof text) ? text : "";
    }

    void save_and_load() {
        struct Memory {
            std::vector<char> bytes;
            size_t read = 0;
        } memory;
        const clap_ostream_t out{&memory, [](const clap_ostream_t* stream, const void* data, uint64_t size) -> int64_t {
                                     auto& bytes = static_cast<Memory*>(stream->ctx)->bytes;
                                     const auto* begin = static_cast<const char*>(data);
                                     bytes.insert(bytes.end(), begin, begin + size);
                                     return static_cast<int64_t>(size);
                                 }};
        const clap_istream_t in{&memory, [](const clap_istream_t* stream, void* data, uint64_t size) -> int64_t {
                                    auto& from = *static_cast<Memory*>(stream->ctx);
                                    const size_t taken = std::min<size_t>(size, from.bytes.size() - from.read);
                                    std::memcpy(data, from.bytes.data() + from.read, taken);
                                    from.read += taken;
                                    return static_cast<int64_t>(taken);
                                }};
        const auto* state = extension<clap_plugin_state_t>(CLAP_EXT_STATE);
        if (!state->save(plugin_, &out) || !state->load(plugin_, &in)) fail("a state was not saved and loaded");
    }

    // ---- the audio thread: silence until the server plays, the input, and silence as long as the latency ----

    void play() {
        plugin_->start_processing(plugin_);
        const bool paced = options_.number("--paced", 0) != 0;
        const auto longest = static_cast<size_t>(options_.number("--await", 0) * rate_);
        const size_t song = input_.size() / kChannels, end = song + latency_;
        const auto begin = Clock::now();
        for (size_t played = 0; !stop_;) {
            const bool waiting = preroll_ < longest && output_.empty() && !playing_;
            const size_t at = output_.size() / kChannels;
            if (!waiting && at >= end) break;
            const auto frames = static_cast<uint32_t>(waiting ? block_ : std::min<size_t>(block_, end - at));
            process(frames, waiting ? song : at, !waiting);
            played += frames;
            if (waiting) preroll_ += frames;
            if (!paced && !waiting) continue;
            const auto due = begin + std::chrono::duration<double>(played / rate_);
            // Not by the clock: how late a busy machine wakes this thread says nothing of the plugin.
            if (!waiting && process_seconds_.back() > frames / rate_) ++underruns_;
            std::this_thread::sleep_until(due);
        }
        plugin_->stop_processing(plugin_);
        done_ = !stop_;
    }

    void process(uint32_t frames, size_t at, bool rolling) {
        std::vector<float> memory((kInputs + kOutputs) * kChannels * frames);
        float* pointers[kInputs + kOutputs][kChannels];
        clap_audio_buffer_t buffers[kInputs + kOutputs] = {};
        for (uint32_t port = 0; port < kInputs + kOutputs; ++port) {
            for (uint32_t channel = 0; channel < kChannels; ++channel) {
                pointers[port][channel] = memory.data() + (port * kChannels + channel) * frames;
            }
            buffers[port].data32 = pointers[port];
            buffers[port].channel_count = kChannels;
        }
        for (uint32_t frame = 0; frame < frames && at + frame < input_.size() / kChannels; ++frame) {
            for (uint32_t channel = 0; channel < kChannels; ++channel) {
                pointers[0][channel][frame] = input_[(at + frame) * kChannels + channel];
            }
        }
        clap_event_transport_t transport{};
        transport.flags = CLAP_TRANSPORT_HAS_TEMPO | CLAP_TRANSPORT_HAS_BEATS_TIMELINE |
                          CLAP_TRANSPORT_HAS_TIME_SIGNATURE | (rolling ? CLAP_TRANSPORT_IS_PLAYING : 0);
        transport.tempo = options_.number("--tempo", 120);
        transport.tsig_num = transport.tsig_denom = 4;
        const double quarters = rolling ? static_cast<double>(at) / rate_ * transport.tempo / 60 : 0.0;
        transport.song_pos_beats = std::llround(quarters * CLAP_BEATTIME_FACTOR);
        transport.bar_start = static_cast<int64_t>(quarters / 4) * 4 * CLAP_BEATTIME_FACTOR;
        Events events;
        if (options_.number("--restless", 0) != 0) stir(events);
        const clap_process_t block = {-1,      frames,   &transport,    buffers,       buffers + kInputs,
                                      kInputs, kOutputs, events.list(), &kOutputEvents};
        const auto begin = Clock::now();
        if (backline_realtime) backline_realtime(1);
        const clap_process_status status = plugin_->process(plugin_, &block);
        if (backline_realtime) backline_realtime(0);
        if (status != CLAP_PROCESS_CONTINUE) fail("process did not go on");
        process_seconds_.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
        if (!rolling) return;
        for (uint32_t frame = 0; frame < frames; ++frame) {
            for (float* channel : pointers[kInputs]) output_.push_back(channel[frame]);
        }
    }

    // Parameters other than the first (the pack), notes, and now and then a jump.
    void stir(Events& events) {
        if (random_() % 16 == 0) {
            clap_param_info_t info;
            const clap_id id = 1 + random_() % (params_->count(plugin_) - 1);
            params_->get_info(plugin_, id, &info);
            const double share = static_cast<double>(random_() % 1000) / 999;
            events.add_parameter(id, info.min_value + share * (info.max_value - info.min_value));
        }
        if (random_() % 4 == 0) events.add_note(random_() % 2 == 0, static_cast<int16_t>(random_() % 128));
        if (random_() % 500 == 0) plugin_->reset(plugin_);
    }

    const Options& options_;
    const std::vector<float>& input_;
    const double rate_;
    const uint32_t block_;
    clap_host_t host_{
        CLAP_VERSION_INIT, this, "clap_host", "Backline", "", "1", get_extension, request_restart, request_process,
        request_callback};
    const clap_plugin_t* plugin_ = nullptr;
    const clap_plugin_params_t* params_ = nullptr;
    uint32_t latency_ = 0;
    std::string seen_;
    double slowest_deactivate_ = 0.0;
    std::atomic<bool> wants_restart_{false}, wants_callback_{false}, stop_{false}, done_{false}, playing_{false};
    // The audio thread's, until it has been joined.
    size_t preroll_ = 0;
    size_t underruns_ = 0;  // blocks that took longer to process than they last
    std::vector<float> output_;
    std::vector<double> process_seconds_;
    std::mt19937 random_{2};
    std::thread audio_;
};

std::vector<float> read_input(const Options& options) {
    const auto most = static_cast<size_t>(options.number("--seconds", 10) * options.number("--rate", 48000));
    std::vector<float> input(most * kChannels);
    if (options.text("--input").empty()) {
        std::mt19937 random(1);
        for (float& sample : input) sample = std::uniform_real_distribution<float>(-0.5f, 0.5f)(random);
        return input;
    }
    std::FILE* file = std::fopen(options.text("--input").c_str(), "rb");
    if (!file) fail("cannot read " + options.text("--input"));
    input.resize(std::fread(input.data(), sizeof(float), input.size(), file) / kChannels * kChannels);
    std::fclose(file);
    return input;
}

void write_output(const Options& options, const std::vector<float>& output) {
    if (options.text("--output").empty()) return;
    std::FILE* file = std::fopen(options.text("--output").c_str(), "wb");
    if (!file || std::fwrite(output.data(), sizeof(float), output.size(), file) != output.size()) {
        fail("cannot write " + options.text("--output"));
    }
    std::fclose(file);
}

}  // namespace

int main(int argc, char** argv) {
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    if (argc < 2 || argc % 2 != 0) fail("usage: clap_host PLUGIN.clap [option value]...");
    Options options;
    for (int index = 2; index < argc; index += 2) options.given.emplace(argv[index], argv[index + 1]);
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(dlerror());
    const auto* entry = static_cast<const clap_plugin_entry_t*>(dlsym(library, "clap_entry"));
    if (!entry || !entry->init(argv[1])) fail("no clap_entry");
    const auto* factory = static_cast<const clap_plugin_factory_t*>(entry->get_factory(CLAP_PLUGIN_FACTORY_ID));
    const std::vector<float> input = read_input(options);
    {
        std::vector<std::unique_ptr<Hosted>> all;
        for (int number = 0; number < options.number("--instances", 1); ++number) {
            all.push_back(std::make_unique<Hosted>(factory, options, input));
        }
        for (auto& one : all) one->start();
        std::mt19937 random(3);
        while (!std::all_of(all.begin(), all.end(), [](auto& one) { return one->done(); })) {
            for (auto& one : all) one->turn(random);
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        for (auto& one : all) one->stop();
        for (auto& one : all) one->report();
        write_output(options, all.front()->output());
    }
    entry->deinit();  // the library stays: sanitizers name its functions at the end
    return 0;
}
