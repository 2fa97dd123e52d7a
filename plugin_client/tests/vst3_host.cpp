// Drives the VST3 plugin as hosts do, and as they should not: vst3_host BINARY CHECK. Silent where the check holds.
// The checks whose names begin with "server_" play through the server that BACKLINE_ADDRESS names.
#include "vst3_host.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <memory>
#include <random>
#include <thread>

#include "parameters.h"

namespace {

using namespace backline;

constexpr int32_t kStems = 5;
constexpr v3_speaker_arrangement kMono = V3_SPEAKER_M;
constexpr v3_speaker_arrangement kStereo = V3_SPEAKER_L | V3_SPEAKER_R;
constexpr double kPassthrough = 1.0;  // of kPack
constexpr int32_t kLastShipped = 3;   // of kPack: mge

Signal noise(size_t frames, unsigned seed) {
    std::mt19937 random(seed);
    std::uniform_real_distribution<float> sample(-0.5f, 0.5f);
    Signal signal(2, std::vector<float>(frames));
    for (auto& channel : signal)
        for (float& value : channel) value = sample(random);
    return signal;
}

Signal silence(size_t frames) {
    return Signal(2, std::vector<float>(frames));
}

// `signal` as it comes out `latency` later, times `gain`.
Signal delayed(const Signal& signal, uint32_t latency, float gain = 1.0f) {
    Signal result = silence(signal[0].size());
    for (size_t channel = 0; channel < 2; ++channel)
        for (size_t frame = latency; frame < signal[0].size(); ++frame)
            result[channel][frame] = gain * signal[channel][frame - latency];
    return result;
}

// Equal, or the first sample at which they are not.
bool same(const Signal& got, const Signal& wanted) {
    for (size_t channel = 0; channel < 2; ++channel) {
        const auto& [one, other] = std::pair(got[channel], wanted[channel]);
        const auto place = std::mismatch(one.begin(), one.end(), other.begin(), other.end());
        if (place.first == one.end()) continue;
        std::fprintf(stderr, "channel %zu, sample %td: %.9g, not %.9g\n", channel, place.first - one.begin(),
                     *place.first, *place.second);
        return false;
    }
    return true;
}

struct Played {
    Signal main;
    Signal stems[kStems];
};

std::vector<float*> at(Signal& signal, size_t frame) {
    return {signal[0].data() + frame, signal[1].data() + frame};
}

// Plays a whole signal in blocks whose sizes `next_size` gives; `before` sees each call's first frame and may add to
// it.
Played play(
    Object& object, Signal input, const std::function<int32_t()>& next_size, Signal sidechain = {},
    const std::function<void(size_t, int32_t, Call&)>& before = [](size_t, int32_t, Call&) {}) {
    const size_t frames = input[0].size();
    Played played{silence(frames), {}};
    for (Signal& stem : played.stems) stem = silence(frames);
    for (size_t frame = 0; frame < frames;) {
        const auto size = static_cast<int32_t>(std::min<size_t>(static_cast<size_t>(next_size()), frames - frame));
        Call call;
        call.inputs = {at(input, frame)};
        if (!sidechain.empty()) call.inputs.push_back(at(sidechain, frame));
        call.outputs = {at(played.main, frame)};
        for (Signal& stem : played.stems) call.outputs.push_back(at(stem, frame));
        before(frame, size, call);
        REQUIRE(object.process(call, size) == V3_OK);
        frame += static_cast<size_t>(size);
    }
    return played;
}

std::function<int32_t()> always(int32_t size) {
    return [size] { return size; };
}

std::function<int32_t()> between(int32_t least, int32_t most, unsigned seed) {
    return [=, random = std::mt19937(seed)]() mutable {
        return std::uniform_int_distribution<int32_t>(least, most)(random);
    };
}

void activate_buses(Object& object) {
    auto* component = v3_cpp_obj(object.component);
    REQUIRE(component->activate_bus(object.component, V3_AUDIO, V3_INPUT, 1, true) == V3_OK);
    for (int32_t stem = 1; stem <= kStems; ++stem)
        REQUIRE(component->activate_bus(object.component, V3_AUDIO, V3_OUTPUT, stem, true) == V3_OK);
}

// ---- what the binary says it is -----------------------------------------------------------------------------------

void factory(const Module& module) {
    auto** v1 = module.factory;
    auto** v2 = ask<v3_plugin_factory_2>(v1, v3_plugin_factory_2_iid);
    auto** v3 = ask<v3_plugin_factory_3>(v1, v3_plugin_factory_3_iid);
    REQUIRE(v2 != nullptr && v3 != nullptr);
    REQUIRE(ask<v3_funknown>(v1, v3_component_iid) == nullptr);

    v3_factory_info about = {};
    REQUIRE(v3_cpp_obj(v1)->get_factory_info(v1, &about) == V3_OK);
    REQUIRE(about.vendor[0] != 0 && about.flags == 0x10);

    v3_class_info first = {};
    v3_class_info_2 second = {};
    v3_class_info_3 third = {};
    REQUIRE(v3_cpp_obj(v1)->num_classes(v1) == 1);
    REQUIRE(v3_cpp_obj(v1)->get_class_info(v1, 0, &first) == V3_OK);
    REQUIRE(v3_cpp_obj(v2)->get_class_info_2(v2, 0, &second) == V3_OK);
    REQUIRE(v3_cpp_obj(v3)->get_class_info_utf16(v3, 0, &third) == V3_OK);
    REQUIRE(std::strcmp(first.category, "Audio Module Class") == 0 && std::strcmp(first.name, "Backline") == 0);
    REQUIRE(std::strcmp(second.name, first.name) == 0 && second.version[0] != 0 && second.sub_categories[0] != 0);
    REQUIRE(std::string(third.name, third.name + 8) == first.name && third.name[8] == 0);
    REQUIRE(v3_tuid_match(first.class_id, second.class_id) && v3_tuid_match(first.class_id, third.class_id));
    for (const int32_t wrong : {-1, 1, INT_MAX})
        REQUIRE(v3_cpp_obj(v1)->get_class_info(v1, wrong, &first) == V3_INVALID_ARG);

    void* made = &about;
    REQUIRE(v3_cpp_obj(v1)->create_instance(v1, v3_component_iid, v3_component_iid, &made) != V3_OK);
    REQUIRE(made == nullptr);
    REQUIRE(v3_cpp_obj(v1)->create_instance(v1, first.class_id, v3_plugin_factory_iid, &made) != V3_OK);
    REQUIRE(made == nullptr);
}

void interfaces(const Module& module) {
    Object object(module);
    auto** identity = ask<v3_funknown>(object.component, v3_funknown_iid);
    auto** same = ask<v3_funknown>(object.processor, v3_funknown_iid);
    auto** again = ask<v3_funknown>(object.controller, v3_funknown_iid);
    auto** needs = ask<v3_process_context_requirements>(object.component, v3_process_context_requirements_iid);
    REQUIRE(identity != nullptr && identity == same && identity == again && needs != nullptr);
    REQUIRE((v3_cpp_obj(needs)->get_process_context_requirements(needs) & V3_PROCESS_CTX_NEED_TEMPO) != 0);
    REQUIRE(ask<v3_funknown>(object.processor, v3_plugin_factory_iid) == nullptr);
    const uint32_t references = v3_cpp_obj_ref(object.component);
    REQUIRE(v3_cpp_obj_unref(object.controller) == references - 1);
    for (int count = 0; count < 3; ++count) v3_cpp_obj_unref(identity);
    v3_cpp_obj_unref(needs);
    REQUIRE(v3_cpp_obj(object.controller)->create_view(object.controller, "editor") == nullptr);
}

void buses(const Module& module) {
    Object object(module);
    auto* component = v3_cpp_obj(object.component);
    auto* processor = v3_cpp_obj(object.processor);
    const auto count = [&](int32_t media, int32_t direction) {
        return component->get_bus_count(object.component, media, direction);
    };
    REQUIRE(count(V3_AUDIO, V3_INPUT) == 2 && count(V3_AUDIO, V3_OUTPUT) == 1 + kStems);
    REQUIRE(count(V3_EVENT, V3_INPUT) == 1 && count(V3_EVENT, V3_OUTPUT) == 0);
    REQUIRE(count(2, 0) == 0 && count(V3_AUDIO, -1) == 0);

    v3_bus_info info = {};
    for (const int32_t direction : {V3_INPUT, V3_OUTPUT}) {
        for (int32_t bus = 0; bus < count(V3_AUDIO, direction); ++bus) {
            REQUIRE(component->get_bus_info(object.component, V3_AUDIO, direction, bus, &info) == V3_OK);
            REQUIRE(info.channel_count == 2 && info.bus_name[0] != 0);
            REQUIRE(info.bus_type == (bus == 0 ? V3_MAIN : V3_AUX));
            REQUIRE(info.flags == (bus == 0 ? 1u : 0u));  // active by default
        }
    }
    for (const int32_t wrong : {-1, 1 + kStems, INT_MAX}) {
        REQUIRE(component->get_bus_info(object.component, V3_AUDIO, V3_OUTPUT, wrong, &info) == V3_INVALID_ARG);
        REQUIRE(component->activate_bus(object.component, V3_AUDIO, V3_OUTPUT, wrong, true) == V3_INVALID_ARG);
    }

    using Arrangements = std::vector<v3_speaker_arrangement>;
    const auto arrange = [&](Arrangements inputs, Arrangements outputs) {
        return processor->set_bus_arrangements(object.processor, inputs.data(), static_cast<int32_t>(inputs.size()),
                                               outputs.data(), static_cast<int32_t>(outputs.size())) == V3_OK;
    };
    const auto arranged = [&](int32_t direction, int32_t bus) {
        v3_speaker_arrangement result = ~0ull;
        REQUIRE(processor->get_bus_arrangement(object.processor, direction, bus, &result) == V3_OK);
        return result;
    };
    REQUIRE(arrange({kStereo, kStereo}, Arrangements(1 + kStems, kStereo)));
    REQUIRE(!arrange({kMono, V3_SPEAKER_L | V3_SPEAKER_R | V3_SPEAKER_C}, {kStereo}));
    REQUIRE(arranged(V3_INPUT, 0) == kStereo);  // all or nothing
    REQUIRE(!arrange({kStereo}, {kStereo, kMono}) && !arrange({0}, {kStereo}) &&
            !arrange(Arrangements(3, kStereo), {}));
    REQUIRE(arrange({kMono, 0}, {kStereo, 0, 0, 0, 0}));
    REQUIRE(arranged(V3_INPUT, 0) == kMono && arranged(V3_INPUT, 1) == 0 && arranged(V3_OUTPUT, 1) == 0);
    REQUIRE(component->get_bus_info(object.component, V3_AUDIO, V3_INPUT, 0, &info) == V3_OK);
    REQUIRE(info.channel_count == 1);
    REQUIRE(arrange({kMono}, {kMono}) && arranged(V3_OUTPUT, 0) == kMono);
    object.start(48000, 64);
    REQUIRE(!arrange({kStereo}, {kStereo}));  // not while the buffers are in use
    object.stop();
}

void parameter_list(const Module& module) {
    Object object(module);
    auto* controller = v3_cpp_obj(object.controller);
    REQUIRE(controller->get_parameter_count(object.controller) == int32_t{kParameterCount});
    int bypasses = 0;
    v3_param_info info = {};
    for (int32_t index = 0; index < int32_t{kParameterCount}; ++index) {
        REQUIRE(controller->get_parameter_info(object.controller, index, &info) == V3_OK);
        REQUIRE(info.param_id == static_cast<uint32_t>(index) && info.title[0] != 0 && info.unit_id == 0);
        REQUIRE(info.default_normalised_value >= 0.0 && info.default_normalised_value <= 1.0);
        bypasses += (info.flags & V3_PARAM_IS_BYPASS) != 0;
        REQUIRE(((info.flags & V3_PARAM_READ_ONLY) != 0) == (info.param_id == kStatus));
        REQUIRE(((info.flags & V3_PARAM_CAN_AUTOMATE) != 0) == (info.param_id != kStatus));  // else some hide it
        REQUIRE(((info.flags & V3_PARAM_IS_LIST) != 0) == (info.step_count > 0 && parameters()[info.param_id].named));
        REQUIRE(((info.flags & V3_PARAM_IS_HIDDEN) != 0) == is_slot(info.param_id));
        if (is_slot(info.param_id)) {  // which stands for nothing: no server has described a pack
            object.set(info.param_id, 0.5);
            REQUIRE(object.value(info.param_id) == 0.0);
            continue;
        }
        for (int step = 0; step <= std::min(info.step_count, 100); ++step) {
            // Steps keep their place also where a host stores them as float.
            const double share = info.step_count > 0 ? static_cast<float>(double(step) / info.step_count) : 0.3;
            const double plain = controller->normalised_parameter_to_plain(object.controller, info.param_id, share);
            if (info.step_count > 0) REQUIRE(plain == std::round(plain));
            REQUIRE(std::fabs(object.normalised(info.param_id, plain) - share) < 1e-6);
            if (info.param_id != kStatus) {
                REQUIRE(controller->set_parameter_normalised(object.controller, info.param_id, share) == V3_OK);
                const double kept = controller->get_parameter_normalised(object.controller, info.param_id);
                REQUIRE(std::fabs(kept - share) < 1e-6);
            }

            v3_str_128 text = {};
            REQUIRE(controller->get_parameter_string_for_value(object.controller, info.param_id, share, text) == V3_OK);
            double back = -1.0;
            REQUIRE(text[0] != 0);
            REQUIRE(controller->get_parameter_value_for_string(object.controller, info.param_id, text, &back) == V3_OK);
            REQUIRE(std::fabs(back - share) < 0.005);  // as exact as the text is
        }
        v3_str_128 nonsense = {'?', '?', 0};
        double kept = 0.5;
        if (info.param_id == kPrompt) continue;  // of which any words say something
        REQUIRE(controller->get_parameter_value_for_string(object.controller, info.param_id, nonsense, &kept) != V3_OK);
        REQUIRE(kept == 0.5);
    }
    REQUIRE(bypasses == 1);
    REQUIRE(object.text(kStatus, 0).rfind("idle: ", 0) == 0);  // as it is, and what to do
    REQUIRE(object.text(kStatus, 3) == "playing");
    REQUIRE(object.text(kLatencyBudget, 2.5) == "2.500");  // the unit is the host's to write
    object.set(kStatus, 3.0);
    REQUIRE(object.value(kStatus) == 0.0);

    v3_str_128 text = {};
    double value = 0.0;
    for (const v3_param_id wrong : {v3_param_id{kParameterCount}, ~v3_param_id{0}}) {
        REQUIRE(controller->get_parameter_info(object.controller, static_cast<int32_t>(wrong), &info) != V3_OK);
        REQUIRE(controller->get_parameter_string_for_value(object.controller, wrong, 0.5, text) != V3_OK);
        REQUIRE(controller->get_parameter_value_for_string(object.controller, wrong, text, &value) != V3_OK);
        REQUIRE(controller->set_parameter_normalised(object.controller, wrong, 0.5) != V3_OK);
        REQUIRE(controller->get_parameter_normalised(object.controller, wrong) == 0.0);
    }
    for (const double wrong : {-1.0, 2.0, std::nan(""), std::numeric_limits<double>::infinity()}) {
        REQUIRE(controller->set_parameter_normalised(object.controller, kDryWet, wrong) == V3_OK);
        REQUIRE(object.value(kDryWet) >= 0.0 && object.value(kDryWet) <= 1.0);
    }
}

// ---- without a server: the dry signal, at the latency that is reported --------------------------------------------

void rates_and_blocks(const Module& module) {
    Object object(module);
    auto* processor = v3_cpp_obj(object.processor);
    REQUIRE(processor->can_process_sample_size(object.processor, V3_SAMPLE_32) == V3_OK);
    REQUIRE(processor->can_process_sample_size(object.processor, V3_SAMPLE_64) != V3_OK);
    REQUIRE(object.setup(48000, 512, V3_REALTIME, V3_SAMPLE_64) != V3_OK);
    REQUIRE(object.setup(48000, 0) != V3_OK);
    for (const double wrong : {0.0, 4000.0, 400000.0, std::nan("")}) {
        REQUIRE(object.setup(wrong, 512) == V3_OK);
        REQUIRE(object.set_active(true) != V3_OK);
    }
    object.set(kLatencyBudget, 0.01);
    for (const double rate : {8000.0, 11025.0, 22050.0, 44100.0, 48000.0, 88200.0, 96000.0, 176400.0, 192000.0}) {
        for (const int32_t block : {1, 17, 64, 441, 1024, 8192}) {
            object.start(rate, block);
            REQUIRE(object.latency() == std::lround(object.value(kLatencyBudget) * rate));
            const Signal input = noise(static_cast<size_t>(block == 8192 ? 20000 : 6 * block + 3000), 1);
            REQUIRE(same(play(object, input, always(block)).main, delayed(input, object.latency())));
            object.stop();
        }
    }
    object.start(48000, 512);
    const Signal input = noise(50000, 2);
    REQUIRE(same(play(object, input, between(1, 2048, 3)).main, delayed(input, object.latency())));  // beyond 512, too
    Call wide;
    wide.sample_size = V3_SAMPLE_64;
    REQUIRE(object.process(wide, 64) != V3_OK);
    REQUIRE(object.process({}, -1) != V3_OK);
    REQUIRE(object.setup(44100, 512) != V3_OK);  // not while active
    object.stop();
    REQUIRE(object.process({}, 64) != V3_OK);
}

void buffers(const Module& module) {
    Object object(module);
    activate_buses(object);
    object.set(kLatencyBudget, 0.01);
    const Signal input = noise(4800, 4);
    const Signal expected = [&] {
        object.start(48000, 480);
        return delayed(input, object.latency());
    }();
    const auto run = [&](const char* what, Signal wanted, const std::function<void(size_t, Call&, Signal&)>& shape) {
        object.stop();
        object.start(48000, 480);
        Signal source = input, result = silence(4800);
        for (size_t frame = 0; frame < 4800; frame += 480) {
            Call call;
            call.inputs = {at(source, frame)};
            call.outputs = {at(result, frame)};
            shape(frame, call, source);
            REQUIRE(object.process(call, 480) == V3_OK);
        }
        const bool is_same = same(result, wanted);
        if (!is_same) std::fprintf(stderr, "%s\n", what);
        REQUIRE(is_same);
    };
    run("as it is", expected, [](size_t, Call&, Signal&) {});

    Signal shared = input;
    run("in place", silence(4800),
        [&](size_t frame, Call& call, Signal&) { call.inputs = call.outputs = {at(shared, frame)}; });
    REQUIRE(same(shared, expected));

    const Signal left_twice = {expected[0], expected[0]};
    run("mono in", left_twice, [](size_t, Call& call, Signal&) { call.inputs[0].resize(1); });
    Signal middle = silence(4800);
    for (size_t frame = 0; frame < 4800; ++frame) middle[0][frame] = 0.5f * (expected[0][frame] + expected[1][frame]);
    run("mono out", middle, [](size_t, Call& call, Signal&) { call.outputs[0].resize(1); });
    run("silent right", {expected[0], silence(4800)[0]}, [](size_t, Call& call, Signal&) { call.silent_inputs = 2; });
    run("no input bus", silence(4800), [](size_t, Call& call, Signal&) { call.inputs.clear(); });
    run("null input", silence(4800), [](size_t, Call& call, Signal&) { call.inputs = {{nullptr, nullptr}}; });
    run("null right output", {expected[0], silence(4800)[0]},
        [](size_t, Call& call, Signal&) { call.outputs[0][1] = nullptr; });
    run("no output bus", silence(4800), [](size_t, Call& call, Signal&) { call.outputs.clear(); });
    run("all buses, the inactive ones null", expected, [](size_t, Call& call, Signal&) {
        call.inputs.push_back({nullptr, nullptr});
        call.outputs.resize(1 + kStems, {nullptr, nullptr});
    });
    run("more buses than there are", expected, [](size_t, Call& call, Signal&) {
        call.inputs.resize(6, {nullptr, nullptr});
        call.outputs.resize(9, {nullptr, nullptr});
    });
    object.stop();
}

// Plays silence in real-time mode, though faster than time, and hands the controller what the processor tells, as hosts
// do on their main thread; `before` may add to each call.
void play_silence(Object& object, double seconds, const std::function<void(double, Call&)>& before = {}) {
    std::vector<float> quiet(480), left(480), right(480);
    for (double at = 0.0; at < seconds - 1e-9; at += 0.01) {
        Changes told;
        Call call;
        call.inputs = {{quiet.data(), quiet.data()}};
        call.outputs = {{left.data(), right.data()}};
        call.told = &told;
        if (before) before(at, call);
        REQUIRE(object.process(call, 480) == V3_OK);
        for (const Queue& queue : told.queues)
            REQUIRE(v3_cpp_obj(object.controller)
                        ->set_parameter_normalised(object.controller, queue.parameter, queue.points.back().second) ==
                    V3_OK);
    }
}

// For what must be seen without a server, also where the other checks have one.
void find_no_server() {
    setenv("BACKLINE_ADDRESS", ("unix:/nonexistent/" + std::string(80, 'x')).c_str(), 1);
}

void flush(const Module& module) {
    Object object(module);
    const auto flush_to = [&](double budget) {
        Changes changes;
        changes.queues = {{kLatencyBudget, {{0, object.normalised(kLatencyBudget, budget)}}},
                          {kStatus, {{0, 1.0}}},
                          {12345, {{0, 0.5}}},
                          {kSeed, {{-5, 0.0}, {99, object.normalised(kSeed, 77)}}}};
        Call call;
        call.changes = &changes;
        REQUIRE(object.process(call, 0) == V3_OK);
        REQUIRE(std::fabs(object.value(kLatencyBudget) - budget) < 1e-9 && object.value(kSeed) == 77);
    };
    flush_to(0.5);  // inactive
    object.start(48000, 64);
    flush_to(0.25);
    REQUIRE(object.latency() == 24000);
    object.stop();
    REQUIRE(object.latency() == 12000);
}

void restart(const Module& module) {
    find_no_server();
    Object object(module);
    object.set(kSeed, 7);  // where a server draws one, the host is told of that, too
    object.set(kLatencyBudget, 0.5);
    object.handler.told = 0;
    object.start(48000, 64);
    object.set(kGain, -3.0);
    REQUIRE(object.handler.told == 0);
    REQUIRE(object.latency() == 24000);
    object.set(kLatencyBudget, 0.25);
    play_silence(object, 0.9);
    REQUIRE(object.handler.told == 0 && object.latency() == 24000);  // it may yet move on
    play_silence(object, 0.2);
    REQUIRE(object.handler.told == V3_RESTART_LATENCY_CHANGED && object.handler.times == 1);
    REQUIRE(object.latency() == 12000);  // also for hosts that ask, and go on
    object.handler.on_restart = [&] {    // others do it so: at once, from within
        object.stop();
        object.start(48000, 64);
    };
    object.set(kMode, 1.0);
    play_silence(object, 1.1);
    REQUIRE(object.latency() == 0);
    const std::vector<uint8_t> live = object.state();
    object.set(kMode, 0.0);
    play_silence(object, 1.1);
    REQUIRE(object.latency() == 12000);
    object.handler.told = 0;
    REQUIRE(object.load(live) == V3_OK);
    REQUIRE((object.handler.told & V3_RESTART_PARAM_VALUES_CHANGED) != 0);
    play_silence(object, 1.1);
    REQUIRE((object.handler.told & V3_RESTART_LATENCY_CHANGED) != 0 && object.latency() == 0);
    REQUIRE(v3_cpp_obj(object.controller)->set_component_handler(object.controller, nullptr) == V3_OK);
    object.set(kMode, 0.0);
    play_silence(object, 1.1);  // nobody to tell
    object.stop();
}

// The latency changes while the host goes on: up to there the output is the input by the old one, from there on by the
// new one, and of what was under way nothing.
void retimed(const Module& module) {
    find_no_server();
    Object object(module);
    object.set(kLatencyBudget, 0.02);
    object.start(48000, 480);
    const Signal input = noise(4 * 48000, 21);
    for (const double budget : {0.05, 2.0, 0.0, 0.01}) {
        const uint32_t old = object.latency();
        object.set(kLatencyBudget, budget);
        size_t last = 0, since = 0;
        const Played played = play(object, input, between(1, 700, 22), {}, [&](size_t frame, int32_t, Call&) {
            if (since == 0 && object.latency() != old) since = last;
            last = frame;
        });
        const uint32_t latency = object.latency();
        REQUIRE(latency == std::lround(budget * 48000));
        REQUIRE(since >= 48000 - 700 && since < 48000 + 1400);
        for (size_t channel = 0; channel < 2; ++channel) {
            const std::vector<float>&in = input[channel], &out = played.main[channel];
            if (since > old) REQUIRE(std::equal(in.begin(), in.begin() + (since - old), out.begin() + old));
            REQUIRE(std::all_of(out.begin() + since, out.begin() + since + latency, [](float x) { return x == 0.0f; }));
            REQUIRE(std::equal(in.begin() + since, in.end() - latency, out.begin() + since + latency));
        }
    }
    object.stop();
}

// A curve over ten seconds, which hosts that hide what cannot be automated let users draw: nothing until it stands.
void curves(const Module& module) {
    find_no_server();
    Object object(module);
    object.set(kLatencyBudget, 0.5);
    object.start(48000, 480);
    REQUIRE(object.latency() == 24000);
    object.handler.told = object.handler.times = 0;
    Changes changes;
    play_silence(object, 10.0, [&](double at, Call& call) {
        const double mode = std::fmod(at, 1.0) < 0.5 ? 0.0 : 1.0;
        changes.queues = {{kLatencyBudget, {{0, object.normalised(kLatencyBudget, 0.5 + 0.2 * at)}}},
                          {kMode, {{100, mode}}}};
        call.changes = &changes;
        REQUIRE(object.handler.times == 0 && object.latency() == 24000);
    });
    changes.queues = {{kMode, {{0, 0.0}}}};
    play_silence(object, 2.5, [&](double, Call& call) { call.changes = &changes; });
    REQUIRE(object.handler.times == 1 && object.handler.told == V3_RESTART_LATENCY_CHANGED);
    REQUIRE(object.latency() == std::lround(object.value(kLatencyBudget) * 48000));
    // In a bounce it stays: a host takes no other latency in the middle of one.
    object.set(kLatencyBudget, 0.1);
    REQUIRE(object.setup(48000, 480, V3_OFFLINE) == V3_OK);
    object.handler.times = 0;
    const uint32_t latency = object.latency();
    play_silence(object, 3.0);
    REQUIRE(object.handler.times == 0 && object.latency() == latency);
    object.stop();
}

// What Ardour shows: words for the status, which to it is a value like any other but cannot be set.
void ardour(const Module& module) {
    find_no_server();
    for (const std::string name : {"Ardour", "Mixbus32C", "Cubase"}) {
        Object object(module, name);
        auto* controller = v3_cpp_obj(object.controller);
        const bool kin = name != "Cubase";
        v3_param_info info = {};
        REQUIRE(controller->get_parameter_info(object.controller, kStatus, &info) == V3_OK);
        REQUIRE((info.flags & V3_PARAM_READ_ONLY) == (kin ? 0 : V3_PARAM_READ_ONLY));
        REQUIRE((info.flags & V3_PARAM_CAN_AUTOMATE) == (kin ? V3_PARAM_CAN_AUTOMATE : 0));
        REQUIRE((info.flags & V3_PARAM_IS_LIST) != 0 && info.step_count == 7);
        object.start(48000, 480);
        REQUIRE(object.latency() == 144000);

        std::vector<float> quiet(480);
        Changes changes, told;
        Call call;
        call.inputs = call.outputs = {{quiet.data(), quiet.data()}};
        call.changes = &changes;
        call.told = &told;
        changes.queues = {{kStatus, {{0, 1.0}}}, {kMode, {{0, 1.0}}}};
        REQUIRE(object.process(call, 480) == V3_OK);
        REQUIRE(object.value(kStatus) == 1.0);  // connecting
        // Ardour is told within the call, all others by a point that the host brings to the main thread.
        REQUIRE((object.handler.told & V3_RESTART_PARAM_VALUES_CHANGED) == (kin ? V3_RESTART_PARAM_VALUES_CHANGED : 0));
        REQUIRE(told.queues.empty() == kin);
        changes.queues.clear();
        for (int block = 0; block < 110; ++block) REQUIRE(object.process(call, 480) == V3_OK);
        REQUIRE((object.handler.told & V3_RESTART_LATENCY_CHANGED) == (kin ? V3_RESTART_LATENCY_CHANGED : 0));
        REQUIRE(object.latency() == 0);  // and live
        // What its user moves moves back.
        object.handler.told = 0;
        object.set(kStatus, 6.0);
        REQUIRE(object.value(kStatus) != 6.0);
        REQUIRE(((object.handler.told & V3_RESTART_PARAM_VALUES_CHANGED) != 0) == kin);
        // Its copies of values are float: what is equal must look so.
        object.set(kTemperature, 0.7);
        const double kept = controller->get_parameter_normalised(object.controller, kTemperature);
        REQUIRE((kept == static_cast<float>(kept)) == kin);
        object.stop();
    }
}

// Of 127 units the first are what to do, however long the address is that nobody listens at.
void remedies(const Module& module) {
    find_no_server();
    Object object(module);
    REQUIRE(object.text(kStatus, 0).rfind("idle: switch the plugin on", 0) == 0);
    object.start(48000, 480);
    play_silence(object, 0.01);
    for (int look = 0; look < 1000 && object.text(kStatus, 1).rfind("connecting: start", 0) != 0; ++look)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    REQUIRE(object.text(kStatus, 1).rfind("connecting: start `backline serve` (there is no server at unix:", 0) == 0);
    object.stop();
}

int32_t steps_of(Object& object, v3_param_id id) {
    v3_param_info info = {};
    REQUIRE(v3_cpp_obj(object.controller)->get_parameter_info(object.controller, static_cast<int32_t>(id), &info) ==
            V3_OK);
    return info.step_count;
}

// A point of automation while the song plays; answers the value that it came to.
double automate(Object& object, v3_param_id id, double normalised) {
    v3_process_context context = {};
    context.state = V3_PROCESS_CTX_PLAYING | V3_PROCESS_CTX_TEMPO_VALID | V3_PROCESS_CTX_PROJECT_TIME_VALID;
    context.bpm = 120.0;
    Changes changes;
    changes.queues = {{id, {{0, normalised}}}};
    std::vector<float> quiet(480);
    Call call;
    call.inputs = call.outputs = {{quiet.data(), quiet.data()}};
    call.changes = &changes;
    call.context = &context;
    REQUIRE(object.process(call, 480) == V3_OK);
    return object.value(id);
}

// As an instance of another day that a server has told of its packs.
void remember(const std::string& names) {
    const std::filesystem::path folder = std::filesystem::path(std::getenv("XDG_STATE_HOME")) / "backline";
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "packs") << names;
}

// Hosts keep automation as a share of the list. In a project that has automated Pack the list keeps its length.
void packs(const Module& module) {
    std::vector<uint8_t> plain, automated;
    {
        Object object(module);
        REQUIRE(steps_of(object, kPack) == kLastShipped && object.text(kPack, kLastShipped) == "mge");
        object.start(48000, 480);
        object.set(kPack, 1.0);
        plain = object.state();
        REQUIRE(automate(object, kPack, 1.0) == kLastShipped && automate(object, kPack, 1.0 / kLastShipped) == 1.0);
        automated = object.state();
        object.stop();
    }
    remember("mine\nours\n");
    Object object(module);
    REQUIRE(steps_of(object, kPack) == kLastShipped + 2 && object.text(kPack, kLastShipped + 2) == "ours");
    REQUIRE(object.load(plain) == V3_OK);
    REQUIRE(steps_of(object, kPack) == kLastShipped + 2 && object.value(kPack) == 1.0);
    for (int reload = 0; reload < 2; ++reload) {
        object.handler.told = 0;
        REQUIRE(object.load(automated) == V3_OK && object.value(kPack) == 1.0);
        REQUIRE(((object.handler.told & V3_RESTART_PARAM_TITLES_CHANGED) != 0) == (reload == 0));
        REQUIRE(steps_of(object, kPack) == kLastShipped);
        object.start(48000, 480);
        REQUIRE(automate(object, kPack, 1.0) == kLastShipped && automate(object, kPack, 1.0 / kLastShipped) == 1.0);
        object.stop();
        int16_t beyond[] = {'m', 'i', 'n', 'e', 0};
        double share = -1.0;
        REQUIRE(v3_cpp_obj(object.controller)
                    ->get_parameter_value_for_string(object.controller, kPack, beyond, &share) != V3_OK);
        automated = object.state();
    }
    Object kept_plain(module, "Ardour");  // it keeps plain values
    REQUIRE(kept_plain.load(automated) == V3_OK);
    REQUIRE(steps_of(kept_plain, kPack) == kLastShipped + 2 && kept_plain.value(kPack) == 1.0);
}

// Before there was a list of what there is, there were always 64 places, and automation counted them.
void packs_of_an_older_project(const Module& module) {
    std::ifstream file(std::getenv("BACKLINE_OLDER_PROJECT"), std::ios::binary);
    const std::vector<uint8_t> older{std::istreambuf_iterator<char>(file), {}};
    for (const bool automated : {false, true}) {
        Object object(module), later(module);
        REQUIRE(object.load(older) == V3_OK && object.value(kPack) == 1.0);
        REQUIRE(steps_of(object, kPack) == 63 && object.text(kPack, 40) == "mge");
        object.start(48000, 480);
        if (automated) {
            REQUIRE(automate(object, kPack, 2.0 / 63.0) == 2.0);
            REQUIRE(automate(object, kPack, 40.0 / 63.0) == kLastShipped);  // which named none
            REQUIRE(automate(object, kPack, 1.0 / 63.0) == 1.0);
        }
        REQUIRE(later.load(object.state()) == V3_OK && later.value(kPack) == 1.0);
        REQUIRE(steps_of(later, kPack) == (automated ? 63 : kLastShipped));
        object.stop();
    }
    Object kept_plain(module, "Ardour");
    REQUIRE(kept_plain.load(older) == V3_OK && kept_plain.value(kPack) == 1.0);
    REQUIRE(steps_of(kept_plain, kPack) == kLastShipped);
}

// A host may ask before it has said at which rate it plays: what it was told then is put right.
void latency_by_rate(const Module& module) {
    Object object(module);
    const uint32_t first = object.latency();
    REQUIRE(first > 0);
    REQUIRE(object.setup(96000, 64) == V3_OK);
    REQUIRE(object.handler.told == V3_RESTART_LATENCY_CHANGED);
    REQUIRE(object.latency() == 2 * first);
    object.handler.told = 0;
    REQUIRE(object.setup(96000, 128) == V3_OK);
    REQUIRE(object.handler.told == 0);  // nothing that it does not know
    REQUIRE(object.setup(44100, 128) == V3_OK);
    REQUIRE(object.handler.told == V3_RESTART_LATENCY_CHANGED);
}

// What no server needs to answer: a transport of any kind must not hurt.
void transports(const Module& module) {
    Object object(module);
    object.set(kLatencyBudget, 0.01);
    object.start(48000, 64);
    std::mt19937 random(5);
    v3_process_context context = {};
    Notes notes;
    const Signal input = noise(64 * 2000, 6);
    const Played played = play(object, input, always(64), {}, [&](size_t frame, int32_t, Call& call) {
        uint8_t bytes[sizeof context];
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
        std::memcpy(&context, bytes, sizeof context);
        if (frame % 128 == 0) {  // half of them nearly sane
            context.bpm = 120.0;
            context.project_time_quarters = double(frame) / 24000.0;
        }
        notes.events.assign(3, {});
        for (v3_event& note : notes.events) {
            note.type = static_cast<uint16_t>(random() % 4);
            note.sample_offset = static_cast<int32_t>(random() % 200) - 50;
            note.note_on = {static_cast<int16_t>(random()),
                            static_cast<int16_t>(random() % 200),
                            0.0f,
                            std::ldexp(float(random()), -32),
                            0,
                            -1};
        }
        call.context = &context;
        call.notes = &notes;
    });
    REQUIRE(same(played.main, delayed(input, object.latency())));
    object.stop();
}

void states(const Module& module) {
    Object one(module), other(module);
    const std::map<uint32_t, double> settings = {{kPack, 1},    {kMode, 1}, {kDryWet, 0.75},       {kGain, -6},
                                                 {kSeed, 4711}, {kKey, 5},  {kLatencyBudget, 1.5}, {kBypass, 1}};
    for (const auto& [id, value] : settings) one.set(id, value);
    const std::vector<uint8_t> state = one.state();
    REQUIRE(!state.empty() && one.state(1) == state && one.state(7) == state);
    REQUIRE(other.state() != state);
    for (const int32_t most : {1, 3, INT_MAX}) {
        other.set(kSeed, 1);
        other.handler.told = 0;
        REQUIRE(other.load(state, most) == V3_OK);
        REQUIRE(other.state() == state);
        REQUIRE((other.handler.told & V3_RESTART_PARAM_VALUES_CHANGED) != 0);
    }
    for (const auto& [id, value] : settings) REQUIRE(std::fabs(other.value(id) - one.value(id)) < 1e-9);

    // Whatever is refused changes nothing.
    other.set(kSeed, 99);
    const std::vector<uint8_t> before = other.state();
    REQUIRE(other.load({}) != V3_OK);
    std::mt19937 random(7);
    for (int count = 0; count < 2000; ++count) {
        std::vector<uint8_t> garbage(random() % 300);
        for (uint8_t& byte : garbage) byte = static_cast<uint8_t>(random());
        REQUIRE(other.load(garbage, count % 2 == 0 ? 1 : INT_MAX) != V3_OK);
    }
    for (size_t size = 0; size < state.size(); ++size)
        REQUIRE(other.load({state.begin(), state.begin() + static_cast<std::ptrdiff_t>(size)}) != V3_OK);
    REQUIRE(other.load(std::vector<uint8_t>(3u << 20)) != V3_OK);
    REQUIRE(other.state() == before);

    REQUIRE(v3_cpp_obj(one.component)->get_state(one.component, nullptr) != V3_OK);
    REQUIRE(v3_cpp_obj(one.component)->set_state(one.component, nullptr) != V3_OK);
    Stream full;
    full.most = 0;  // a disk that takes nothing
    REQUIRE(v3_cpp_obj(one.component)->get_state(one.component, full.lend()) != V3_OK);
    Stream copy;
    copy.bytes = state;
    REQUIRE(v3_cpp_obj(one.controller)->set_component_state(one.controller, copy.lend()) == V3_OK);
}

// ---- many, and from many threads ----------------------------------------------------------------------------------

void many_instances(const Module& module) {
    std::vector<std::unique_ptr<Object>> objects;
    for (int count = 0; count < 24; ++count) {
        objects.push_back(std::make_unique<Object>(module));
        objects.back()->set(kLatencyBudget, 0.001 * count);
        objects.back()->start(48000, 128);
    }
    const Signal input = noise(4800, 8);
    for (int round = 0; round < 3; ++round) {
        for (size_t index = 0; index < objects.size(); ++index) {
            if (round > 0) objects[index]->stop(), objects[index]->start(48000, 128);
            REQUIRE(same(play(*objects[index], input, always(128)).main, delayed(input, objects[index]->latency())));
        }
        objects.erase(objects.begin() + 3 * round);
    }
}

// The audio thread plays while the main thread does all that it may do meanwhile.
void threads(const Module& module) {
    Object object(module);
    activate_buses(object);
    object.start(48000, 64);
    std::atomic<bool> done{false};
    std::thread audio([&] {
        const Signal input = noise(6400, 9);
        Changes changes, told;
        while (!done) {
            play(object, input, between(0, 64, 10), input, [&](size_t frame, int32_t, Call& call) {
                changes.queues = {{kGain, {{0, double(frame % 100) / 100.0}}}};
                told.queues.clear();
                call.changes = &changes;
                call.told = &told;
            });
            object.set_processing(false);
            object.set_processing(true);
        }
    });
    const std::vector<uint8_t> state = object.state();
    for (int round = 0; round < 300; ++round) {
        object.set(kDryWet, round % 100 / 100.0);
        object.set(kLatencyBudget, round % 50 / 10.0);
        object.set(kPack, round % 2);
        object.text(kPack, 1);
        object.latency();
        object.value(kStatus);
        REQUIRE(object.setup(48000, 64, round % 10 == 0 ? V3_PREFETCH : V3_REALTIME) == V3_OK);
        REQUIRE(!object.state().empty() && object.load(state) == V3_OK);
        std::this_thread::sleep_for(std::chrono::milliseconds(3));
    }
    done = true;
    audio.join();
    object.stop();
}

// ---- through a server ---------------------------------------------------------------------------------------------

// The pass-through pack has one port; stem 1 carries it, and only while the server plays: it tells wet from dry.
void pass_through(Object& object, double budget) {
    activate_buses(object);
    object.set(kPack, kPassthrough);
    object.set(kDryWet, 1.0);
    object.set(kLatencyBudget, budget);
}

void require_playing(Object& object) {
    const double status = object.value(kStatus);
    if (status != 3.0) std::fprintf(stderr, "%s\n", object.text(kStatus, status).c_str());
    REQUIRE(status == 3.0);
}

void offline(const Module& module) {
    for (const double rate : {44100.0, 48000.0}) {
        Object object(module);
        pass_through(object, 0.25);
        object.set(kSeed, 1);
        object.start(rate, 512, V3_OFFLINE);
        const Signal input = noise(static_cast<size_t>(4 * rate), 11);
        const Played played = play(object, input, between(1, 512, 12));
        require_playing(object);
        const Signal expected = delayed(input, object.latency());
        REQUIRE(same(played.stems[0], expected));
        REQUIRE(same(played.main, expected));
        for (int stem = 1; stem < kStems; ++stem) REQUIRE(same(played.stems[stem], silence(input[0].size())));
        object.stop();
    }
}

// Ardour's way: the setup is real time for ever, and each call of an export says that it is one.
void offline_by_call(const Module& module) {
    Object object(module);
    pass_through(object, 0.25);
    object.start(48000, 512);
    const Signal input = noise(96000, 21);
    const auto run = [&](int32_t mode, const Signal& signal, unsigned seed) {
        const auto say = [mode](size_t, int32_t, Call& call) { call.mode = mode; };
        return play(object, signal, between(1, 512, seed), {}, say);
    };
    const Signal expected = delayed(input, object.latency());
    for (unsigned export_number = 0; export_number < 2; ++export_number) {
        run(V3_REALTIME, noise(4800, 22 + export_number), 23);
        const Played played = run(V3_OFFLINE, input, 24 + export_number);
        require_playing(object);
        REQUIRE(same(played.stems[0], expected));
        REQUIRE(same(played.main, expected));
    }
    object.stop();
}

// A short one, for servers that take their time.
void slow_bounce(const Module& module) {
    Object object(module);
    pass_through(object, 0.25);
    object.start(48000, 512, V3_OFFLINE);
    const Signal input = noise(60000, 17);
    const Played played = play(object, input, between(1, 2048, 18));
    require_playing(object);
    REQUIRE(same(played.stems[0], delayed(input, object.latency())));
    REQUIRE(same(played.main, played.stems[0]));
    object.stop();
}

void sidechain(const Module& module) {
    Object object(module);
    pass_through(object, 0.25);
    object.set(kInput, 1.0);
    object.start(48000, 480, V3_OFFLINE);
    const Signal voice = noise(96000, 13);
    const Played played = play(object, noise(96000, 14), always(480), voice);
    require_playing(object);
    REQUIRE(same(played.stems[0], delayed(voice, object.latency())));
    REQUIRE(same(played.main, played.stems[0]));
    object.stop();
}

// A host's project of version 45799d0, which had five outputs: values, and what plays where.
void project_of_five_outputs(const Module& module) {
    std::ifstream file(std::getenv("BACKLINE_OLDER_PROJECT"), std::ios::binary);
    const std::vector<uint8_t> older{std::istreambuf_iterator<char>(file), {}};
    Object object(module);
    auto* processor = v3_cpp_obj(object.processor);
    std::vector<v3_speaker_arrangement> inputs(2, kStereo), outputs(5, kStereo);
    REQUIRE(processor->set_bus_arrangements(object.processor, inputs.data(), 2, outputs.data(), 5) == V3_OK);
    for (int32_t bus = 0; bus < 2; ++bus)
        REQUIRE(v3_cpp_obj(object.component)->activate_bus(object.component, V3_AUDIO, V3_INPUT, bus, true) == V3_OK);
    for (int32_t bus = 0; bus < 5; ++bus)
        REQUIRE(v3_cpp_obj(object.component)->activate_bus(object.component, V3_AUDIO, V3_OUTPUT, bus, true) == V3_OK);
    REQUIRE(object.load(older) == V3_OK);
    const double saved[] = {1, 0, 1, -4.5, 2.5, 0.75, 22, 4711, 0.5, 0.2, 0.25, 1, 0};
    for (uint32_t index = 0; index < kStatus; ++index) REQUIRE(std::fabs(object.value(index) - saved[index]) < 1e-9);
    REQUIRE(object.value(kPrompt) == 0.0 && object.text(kPrompt, 0) == "vocals");
    object.set(kGain, 0.0);
    object.start(48000, 480, V3_OFFLINE);
    Signal voice = noise(96000, 13), band = noise(96000, 14), main = silence(96000);
    std::vector<Signal> stems(4, silence(96000));
    for (size_t frame = 0; frame < 96000; frame += 480) {
        Call call;
        call.inputs = {at(band, frame), at(voice, frame)};
        call.outputs = {at(main, frame)};
        for (Signal& stem : stems) call.outputs.push_back(at(stem, frame));
        REQUIRE(object.process(call, 480) == V3_OK);
    }
    require_playing(object);
    REQUIRE(same(main, delayed(voice, object.latency())));  // its Input is the sidechain
    REQUIRE(same(stems[0], main) && same(stems[3], silence(96000)));
    object.stop();
}

// What was drawn for a seed that is left to chance stands beside it, and the host is told to read it again.
void seed(const Module& module) {
    Object object(module);
    pass_through(object, 0.1);
    REQUIRE(object.text(kSeed, 0) == "random");
    object.start(48000, 480, V3_OFFLINE);
    object.handler.told = 0;
    play_silence(object, 1.0);
    require_playing(object);
    const std::string text = object.text(kSeed, 0);
    const std::string drawn = text.substr(0, text.size() - 1).substr(std::string("random (").size());
    REQUIRE(text == "random (" + drawn + ")" && std::stoi(drawn) >= 1 && std::stoi(drawn) <= 999'999);
    REQUIRE(object.text(kStatus, 3).rfind("playing: seed " + drawn + "; needs ", 0) == 0);
    REQUIRE((object.handler.told & V3_RESTART_PARAM_VALUES_CHANGED) != 0);
    object.stop();
}

// The host is told on the main thread, where it hands over what the processor has told.
void new_packs(const Module& module) {
    Object object(module);
    object.start(48000, 480);
    REQUIRE(steps_of(object, kPack) == kLastShipped);
    for (int block = 0; block < 1000 && steps_of(object, kPack) == kLastShipped; ++block) {
        object.handler.told = 0;  // it may have been told of names before
        play_silence(object, 0.01);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    REQUIRE((object.handler.told & V3_RESTART_PARAM_TITLES_CHANGED) != 0);
    REQUIRE((object.handler.told & V3_RESTART_PARAM_VALUES_CHANGED) != 0);
    REQUIRE(steps_of(object, kPack) == kLastShipped + 1 && object.text(kPack, kLastShipped + 1) == "mine");
    object.stop();
}

// The pack "everything" of tests/support names two parameters: one of three steps with names, one without steps.
void names(const Module& module) {
    Object object(module);
    const auto info_of = [&](uint32_t parameter) {
        v3_param_info info = {};
        const auto index = static_cast<int32_t>(parameter);
        REQUIRE(v3_cpp_obj(object.controller)->get_parameter_info(object.controller, index, &info) == V3_OK);
        return info;
    };
    const std::u16string style = u"style";
    object.set(kPack, kLastShipped + 1);
    REQUIRE(object.text(kPack, kLastShipped + 1) == "everything");
    object.start(48000, 480);
    object.handler.told = 0;
    for (int block = 0; block < 1000 && (object.handler.told & V3_RESTART_PARAM_TITLES_CHANGED) == 0; ++block) {
        play_silence(object, 0.01);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    REQUIRE((object.handler.told & V3_RESTART_PARAM_VALUES_CHANGED) != 0);
    v3_param_info info = info_of(kFirstSlot);
    REQUIRE(std::equal(style.begin(), style.end(), info.title) && info.title[style.size()] == 0);
    REQUIRE(info.step_count == 2 && (info.flags & V3_PARAM_IS_LIST) != 0 && (info.flags & V3_PARAM_IS_HIDDEN) == 0);
    REQUIRE(object.text(kFirstSlot, 0.5) == "swing" && info.default_normalised_value == 0.0);
    info = info_of(kFirstSlot + 1);
    REQUIRE(info.step_count == 0 && info.default_normalised_value == 1.0 && object.value(kFirstSlot + 1) == 1.0);
    REQUIRE((info_of(kFirstSlot + 2).flags & V3_PARAM_IS_HIDDEN) != 0);
    object.set(kFirstSlot, 0.9);
    REQUIRE(object.value(kFirstSlot) == 1.0);  // the last of its steps
    // Its text suggests prompts, and hosts that offer a field for a value's text take any words.
    REQUIRE(object.text(kPrompt, 0) == "a rhodes" && object.text(kPrompt, 1) == "drums");
    const auto typed = [&](v3_str_128 words) {
        double normalised = -1.0;
        const auto* controller = v3_cpp_obj(object.controller);
        REQUIRE(controller->get_parameter_value_for_string(object.controller, kPrompt, words, &normalised) == V3_OK);
        return normalised;
    };
    const std::u16string words = u"a \u00e9lan \u266b \U0001F3B9";
    v3_str_128 held = {'D', 'r', 'u', 'm', 's', 0}, own = {};
    std::copy(words.begin(), words.end(), own);
    REQUIRE(typed(held) == object.normalised(kPrompt, 1) && typed(own) == 1.0);
    REQUIRE(object.words(kPrompt, 7) == words);
    object.handler.told = 0;
    object.set(kPrompt, 7);
    REQUIRE((object.handler.told & V3_RESTART_PARAM_VALUES_CHANGED) != 0);
    Object other(module);
    REQUIRE(other.load(object.state()) == V3_OK && other.state() == object.state());
    object.stop();
}

// A point at frame 100 of a block is heard from that very sample on.
void automation(const Module& module) {
    Object object(module);
    pass_through(object, 0.25);
    object.start(48000, 480, V3_OFFLINE);
    const Signal input = noise(96000, 15);
    Changes changes;
    changes.queues = {{kGain, {{100, 0.0}}}};  // the lowest value is silence
    const size_t changed = 48000 + 100;
    const Played played = play(object, input, always(480), {}, [&](size_t frame, int32_t, Call& call) {
        if (frame == 48000) call.changes = &changes;
    });
    require_playing(object);
    const Signal expected = delayed(input, object.latency());
    for (size_t channel = 0; channel < 2; ++channel) {
        const std::vector<float>& got = played.main[channel];
        const std::vector<float>& wanted = expected[channel];
        REQUIRE(std::equal(got.begin(), got.begin() + changed, wanted.begin()));
        REQUIRE(got[changed] != wanted[changed]);
        REQUIRE(std::all_of(got.begin() + changed + 4800, got.end(), [](float sample) { return sample == 0.0f; }));
    }
    object.stop();
}

// In real time, with notes and a transport: what comes is at its place, and after the start everything comes.
void realtime(const Module& module) {
    Object object(module);
    pass_through(object, 1.0);
    object.start(48000, 480);
    const Signal input = noise(48000 * 4, 16);
    const auto begin = std::chrono::steady_clock::now();
    v3_process_context context = {};
    Notes notes;
    Changes told;
    const Played played = play(object, input, always(480), {}, [&](size_t frame, int32_t, Call& call) {
        std::this_thread::sleep_until(begin + std::chrono::microseconds(frame * 1000 / 48));
        context.state = V3_PROCESS_CTX_PLAYING | V3_PROCESS_CTX_TEMPO_VALID | V3_PROCESS_CTX_PROJECT_TIME_VALID;
        context.bpm = 96.0;
        context.project_time_quarters = double(frame) / 48000.0 * 1.6;
        notes.events.assign(1, {});
        notes.events[0].type = frame / 480 % 2 == 0 ? V3_EVENT_NOTE_ON : V3_EVENT_NOTE_OFF;
        notes.events[0].note_on.pitch = 60;
        call.context = &context;
        call.notes = &notes;
        call.told = &told;
    });
    const Signal expected = delayed(input, object.latency());
    bool came = false;
    for (size_t frame = 0; frame < input[0].size(); ++frame) {
        const float left = played.stems[0][0][frame];
        REQUIRE(left == 0.0f || left == expected[0][frame] || frame < 48000 * 2);
        came = came || left != 0.0f;
    }
    REQUIRE(came);
    for (size_t channel = 0; channel < 2; ++channel)
        REQUIRE(std::equal(played.main[channel].begin() + 48000 * 2, played.main[channel].end(),
                           expected[channel].begin() + 48000 * 2));
    require_playing(object);
    REQUIRE(!told.queues.empty() && told.queues.back().parameter == kStatus);
    REQUIRE(std::fabs(told.queues.back().points[0].second - object.normalised(kStatus, 3.0)) < 1e-9);
    object.stop();
}

}  // namespace

int main(int count, char** arguments) {
    const std::map<std::string, void (*)(const Module&)> checks = {
        {"factory", factory},
        {"interfaces", interfaces},
        {"buses", buses},
        {"parameters", parameter_list},
        {"rates_and_blocks", rates_and_blocks},
        {"buffers", buffers},
        {"flush", flush},
        {"restart", restart},
        {"retimed", retimed},
        {"curves", curves},
        {"ardour", ardour},
        {"remedies", remedies},
        {"packs", packs},
        {"packs_of_an_older_project", packs_of_an_older_project},
        {"latency_by_rate", latency_by_rate},
        {"transports", transports},
        {"states", states},
        {"many_instances", many_instances},
        {"threads", threads},
        {"server_offline", offline},
        {"server_offline_by_call", offline_by_call},
        {"server_slow_bounce", slow_bounce},
        {"server_sidechain", sidechain},
        {"server_project_of_five_outputs", project_of_five_outputs},
        {"server_automation", automation},
        {"server_packs", new_packs},
        {"server_names", names},
        {"server_seed", seed},
        {"server_realtime", realtime},
        {"server_threads", threads},
    };
    if (count != 3 || checks.count(arguments[2]) == 0) {
        std::fprintf(stderr, "usage: vst3_host BINARY CHECK, where CHECK is one of\n");
        for (const auto& check : checks) std::fprintf(stderr, "    %s\n", check.first.c_str());
        return 2;
    }
    const Module module(arguments[1]);
    checks.at(arguments[2])(module);
}
