// A small VST3 host: it loads the plugin's binary, owns objects of its class and lends them streams, lists and an ear.
#pragma once

#include <audio_processor.h>
#include <component.h>
#include <dlfcn.h>
#include <edit_controller.h>
#include <factory.h>
#include <host.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#define REQUIRE(condition)                                                               \
    do {                                                                                 \
        if (!(condition)) {                                                              \
            std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
            std::exit(1);                                                                \
        }                                                                                \
    } while (false)

// ---- what a host lends: each begins with a pointer to its functions, as COM has it, and outlives the loan
// ------------

inline v3_result no_interface(void*, const v3_tuid, void** object) {
    *object = nullptr;
    return V3_NO_INTERFACE;
}
inline uint32_t one(void*) {
    return 1;
}
inline constexpr v3_funknown kLent = {no_interface, one, one};

// A file in memory. `most` is what a single call reads or writes.
struct Stream {
    struct Table {
        v3_funknown unknown;
        v3_bstream stream;
    };
    const Table* table = &kTable;
    std::vector<uint8_t> bytes;
    size_t position = 0;
    int32_t most = INT_MAX;

    v3_bstream** lend() { return reinterpret_cast<v3_bstream**>(this); }

    static v3_result read(void* self, void* buffer, int32_t size, int32_t* count) {
        auto& stream = *static_cast<Stream*>(self);
        *count = static_cast<int32_t>(
            std::min<size_t>(static_cast<size_t>(std::min(size, stream.most)), stream.bytes.size() - stream.position));
        std::copy_n(stream.bytes.begin() + static_cast<std::ptrdiff_t>(stream.position), *count,
                    static_cast<uint8_t*>(buffer));
        stream.position += static_cast<size_t>(*count);
        return V3_OK;
    }
    static v3_result write(void* self, void* buffer, int32_t size, int32_t* count) {
        auto& stream = *static_cast<Stream*>(self);
        *count = std::min(size, stream.most);
        const auto* begin = static_cast<uint8_t*>(buffer);
        stream.bytes.insert(stream.bytes.end(), begin, begin + *count);
        return V3_OK;
    }
    static v3_result seek(void*, int64_t, int32_t, int64_t*) { return V3_NOT_IMPLEMENTED; }
    static v3_result tell(void*, int64_t*) { return V3_NOT_IMPLEMENTED; }
    static constexpr Table kTable = {kLent, {read, write, seek, tell}};
};

// Who the host is.
struct Application {
    struct Table {
        v3_funknown unknown;
        v3_host_application application;
    };
    const Table* table = &kTable;
    std::string name;

    explicit Application(std::string given) : name(std::move(given)) {}
    v3_funknown** lend() { return reinterpret_cast<v3_funknown**>(this); }

    static v3_result query(void* self, const v3_tuid iid, void** object) {
        const bool known = v3_tuid_match(iid, v3_funknown_iid) || v3_tuid_match(iid, v3_host_application_iid);
        *object = known ? self : nullptr;
        return known ? V3_OK : V3_NO_INTERFACE;
    }
    static v3_result get_name(void* self, v3_str_128 text) {
        const std::string& name = static_cast<Application*>(self)->name;
        std::copy(name.begin(), name.end(), text);
        text[name.size()] = 0;
        return V3_OK;
    }
    static v3_result create(void*, v3_tuid, v3_tuid, void**) { return V3_NOT_IMPLEMENTED; }
    static constexpr Table kTable = {{query, one, one}, {get_name, create}};
};

// The host's ear: what it was told, and what it does about it.
struct Handler {
    struct Table {
        v3_funknown unknown;
        v3_component_handler handler;
    };
    const Table* table = &kTable;
    int32_t told = 0;
    int times = 0;
    int references = 1;
    std::function<void()> on_restart = [] {};

    v3_component_handler** lend() { return reinterpret_cast<v3_component_handler**>(this); }

    static uint32_t ref(void* self) { return static_cast<uint32_t>(++static_cast<Handler*>(self)->references); }
    static uint32_t unref(void* self) { return static_cast<uint32_t>(--static_cast<Handler*>(self)->references); }
    static v3_result edit(void*, v3_param_id) { return V3_OK; }
    static v3_result perform(void*, v3_param_id, double) { return V3_OK; }
    static v3_result restart(void* self, int32_t flags) {
        static_cast<Handler*>(self)->told |= flags;
        ++static_cast<Handler*>(self)->times;
        static_cast<Handler*>(self)->on_restart();
        return V3_OK;
    }
    static constexpr Table kTable = {{no_interface, ref, unref}, {edit, perform, edit, restart}};
};

// Points of one parameter within a block.
struct Queue {
    struct Table {
        v3_funknown unknown;
        v3_param_value_queue queue;
    };
    const Table* table = &kTable;
    v3_param_id parameter;
    std::vector<std::pair<int32_t, double>> points;

    Queue(v3_param_id id, std::vector<std::pair<int32_t, double>> list) : parameter(id), points(std::move(list)) {}

    static v3_param_id id(void* self) { return static_cast<Queue*>(self)->parameter; }
    static int32_t count(void* self) { return static_cast<int32_t>(static_cast<Queue*>(self)->points.size()); }
    static v3_result point(void* self, int32_t index, int32_t* offset, double* value) {
        std::tie(*offset, *value) = static_cast<Queue*>(self)->points.at(static_cast<size_t>(index));
        return V3_OK;
    }
    static v3_result add(void* self, int32_t offset, double value, int32_t* index) {
        auto& points = static_cast<Queue*>(self)->points;
        *index = static_cast<int32_t>(points.size());
        points.emplace_back(offset, value);
        return V3_OK;
    }
    static constexpr Table kTable = {kLent, {id, count, point, add}};
};

// The parameter changes of a block, to the plugin or from it.
struct Changes {
    struct Table {
        v3_funknown unknown;
        v3_param_changes changes;
    };
    const Table* table = &kTable;
    std::vector<Queue> queues;

    v3_param_changes** lend() { return reinterpret_cast<v3_param_changes**>(this); }

    static int32_t count(void* self) { return static_cast<int32_t>(static_cast<Changes*>(self)->queues.size()); }
    static v3_param_value_queue** get(void* self, int32_t index) {
        return reinterpret_cast<v3_param_value_queue**>(
            &static_cast<Changes*>(self)->queues.at(static_cast<size_t>(index)));
    }
    static v3_param_value_queue** add(void* self, v3_param_id* id, int32_t* index) {
        *index = count(self);
        static_cast<Changes*>(self)->queues.emplace_back(*id, std::vector<std::pair<int32_t, double>>{});
        return get(self, *index);
    }
    static constexpr Table kTable = {kLent, {count, get, add}};
};

// The notes of a block.
struct Notes {
    struct Table {
        v3_funknown unknown;
        v3_event_list list;
    };
    const Table* table = &kTable;
    std::vector<v3_event> events;

    v3_event_list** lend() { return reinterpret_cast<v3_event_list**>(this); }

    static uint32_t count(void* self) { return static_cast<uint32_t>(static_cast<Notes*>(self)->events.size()); }
    static v3_result get(void* self, int32_t index, v3_event* event) {
        *event = static_cast<Notes*>(self)->events.at(static_cast<size_t>(index));
        return V3_OK;
    }
    static v3_result add(void*, v3_event*) { return V3_NOT_IMPLEMENTED; }
    static constexpr Table kTable = {kLent, {count, get, add}};
};

// ---- what a host loads --------------------------------------------------------------------------------------------

struct Module {
    explicit Module(const char* path) : library(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
        if (library == nullptr) std::fprintf(stderr, "%s\n", dlerror());
        REQUIRE(library != nullptr);
        REQUIRE(entry<bool(void*)>("ModuleEntry")(library));
        factory = entry<v3_plugin_factory**()>("GetPluginFactory")();
        REQUIRE(factory != nullptr);
    }
    ~Module() {
        REQUIRE(entry<bool()>("ModuleExit")());
        dlclose(library);
    }
    template <class Function>
    Function* entry(const char* name) {
        auto* found = reinterpret_cast<Function*>(dlsym(library, name));
        REQUIRE(found != nullptr);
        return found;
    }

    void* library;
    v3_plugin_factory** factory;
};

template <class Found, class Asked>
Found** ask(Asked** object, const v3_tuid iid) {
    Found** found = nullptr;
    const v3_result result = v3_cpp_obj_query_interface(object, iid, &found);
    REQUIRE((result == V3_OK) == (found != nullptr));
    return found;
}

using Signal = std::vector<std::vector<float>>;  // [channel][frame]

// One process call: what is not set is null, as hosts may leave it.
struct Call {
    std::vector<std::vector<float*>> inputs;  // [bus][channel]
    std::vector<std::vector<float*>> outputs;
    uint64_t silent_inputs = 0;  // channels of every input bus, as bits
    Changes* changes = nullptr;
    Changes* told = nullptr;
    Notes* notes = nullptr;
    v3_process_context* context = nullptr;
    int32_t sample_size = V3_SAMPLE_32;
    int32_t mode = V3_REALTIME;
};

// An object of the plugin's class, with a host around it.
class Object {
  public:
    explicit Object(const Module& module, const std::string& host = "") : application(host) {
        v3_class_info info = {};
        REQUIRE(v3_cpp_obj(module.factory)->get_class_info(module.factory, 0, &info) == V3_OK);
        void* made = nullptr;
        REQUIRE(v3_cpp_obj(module.factory)->create_instance(module.factory, info.class_id, v3_component_iid, &made) ==
                V3_OK);
        component = static_cast<v3_component**>(made);
        processor = ask<v3_audio_processor>(component, v3_audio_processor_iid);
        controller = ask<v3_edit_controller>(component, v3_edit_controller_iid);
        REQUIRE(v3_cpp_obj_initialize(component, host.empty() ? nullptr : application.lend()) == V3_OK);
        REQUIRE(v3_cpp_obj(controller)->set_component_handler(controller, handler.lend()) == V3_OK);
    }
    ~Object() {
        REQUIRE(v3_cpp_obj_terminate(component) == V3_OK);
        v3_cpp_obj_unref(controller);
        v3_cpp_obj_unref(processor);
        REQUIRE(v3_cpp_obj_unref(component) == 0);
        REQUIRE(handler.references == 1);
    }
    Object(const Object&) = delete;
    Object& operator=(const Object&) = delete;

    v3_result setup(double rate, int32_t frames, int32_t mode = V3_REALTIME, int32_t size = V3_SAMPLE_32) {
        v3_process_setup wanted = {mode, size, frames, rate};
        return v3_cpp_obj(processor)->setup_processing(processor, &wanted);
    }
    v3_result set_active(bool active) { return v3_cpp_obj(component)->set_active(component, active); }
    void set_processing(bool on) { REQUIRE(v3_cpp_obj(processor)->set_processing(processor, on) == V3_OK); }
    void start(double rate, int32_t frames, int32_t mode = V3_REALTIME) {
        REQUIRE(setup(rate, frames, mode) == V3_OK);
        REQUIRE(set_active(true) == V3_OK);
        set_processing(true);
    }
    void stop() {
        set_processing(false);
        REQUIRE(set_active(false) == V3_OK);
    }
    uint32_t latency() { return v3_cpp_obj(processor)->get_latency_samples(processor); }

    double normalised(v3_param_id id, double plain) {
        return v3_cpp_obj(controller)->plain_parameter_to_normalised(controller, id, plain);
    }
    double value(v3_param_id id) {
        auto* functions = v3_cpp_obj(controller);
        return functions->normalised_parameter_to_plain(controller, id,
                                                        functions->get_parameter_normalised(controller, id));
    }
    void set(v3_param_id id, double plain) {
        REQUIRE(v3_cpp_obj(controller)->set_parameter_normalised(controller, id, normalised(id, plain)) == V3_OK);
    }
    std::u16string words(v3_param_id id, double plain) {
        v3_str_128 wide = {};
        REQUIRE(v3_cpp_obj(controller)->get_parameter_string_for_value(controller, id, normalised(id, plain), wide) ==
                V3_OK);
        return std::u16string(wide, std::find(wide, wide + 128, 0));
    }
    std::string text(v3_param_id id, double plain) {  // of ASCII
        const std::u16string wide = words(id, plain);
        return std::string(wide.begin(), wide.end());
    }

    std::vector<uint8_t> state(int32_t most = INT_MAX) {
        Stream stream;
        stream.most = most;
        REQUIRE(v3_cpp_obj(component)->get_state(component, stream.lend()) == V3_OK);
        return stream.bytes;
    }
    v3_result load(const std::vector<uint8_t>& bytes, int32_t most = INT_MAX) {
        Stream stream;
        stream.bytes = bytes;
        stream.most = most;
        return v3_cpp_obj(component)->set_state(component, stream.lend());
    }

    v3_result process(Call call, int32_t frames) {
        std::vector<v3_audio_bus_buffers> inputs, outputs;
        for (auto& bus : call.inputs)
            inputs.push_back({static_cast<int32_t>(bus.size()), call.silent_inputs, {bus.data()}});
        for (auto& bus : call.outputs) outputs.push_back({static_cast<int32_t>(bus.size()), ~0ull, {bus.data()}});
        v3_process_data data = {};
        data.process_mode = call.mode;
        data.symbolic_sample_size = call.sample_size;
        data.nframes = frames;
        data.num_input_buses = static_cast<int32_t>(inputs.size());
        data.num_output_buses = static_cast<int32_t>(outputs.size());
        data.inputs = inputs.empty() ? nullptr : inputs.data();
        data.outputs = outputs.empty() ? nullptr : outputs.data();
        if (call.changes != nullptr) data.input_params = call.changes->lend();
        if (call.told != nullptr) data.output_params = call.told->lend();
        if (call.notes != nullptr) data.input_events = call.notes->lend();
        data.ctx = call.context;
        const v3_result result = v3_cpp_obj(processor)->process(processor, &data);
        for (const auto& bus : outputs) REQUIRE(result != V3_OK || bus.channel_silence_bitset == 0);
        return result;
    }

    v3_component** component;
    v3_audio_processor** processor;
    v3_edit_controller** controller;
    Application application;
    Handler handler;
};
