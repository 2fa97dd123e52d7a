// One VST3 object: a Plugin, the COM interfaces that a host sees of it, and what these share.
//
// It is component, audio processor and edit controller at once: parameters, latency and state have one home, and hosts
// find the controller by asking the component for it.
#pragma once

#include <audio_processor.h>
#include <component.h>
#include <edit_controller.h>

#include <atomic>

#include "buses.h"
#include "events.h"
#include "hosts.h"
#include "plugin.h"

namespace backline::vst3 {

struct Instance;

// What a pointer that the host holds points to: first a table of functions, as COM has it, then what is ours.
struct Interface {
    const void* table;
    Instance* owner;
};

constexpr uint32_t kNeverTold = UINT32_MAX;  // of a latency that the host has not asked for

struct Instance {
    Instance();
    ~Instance();
    Instance(const Instance&) = delete;
    Instance& operator=(const Instance&) = delete;

    void listen(v3_component_handler** ear);  // [main] the host's, or null
    // Packs in the list, as the host counts them; Ardour, which keeps automation in plain units, as they are shown.
    uint32_t packs() const {
        return ardour ? static_cast<uint32_t>(plugin.maximum(kPack)) + 1 : plugin.packs_counted();
    }

    Interface component;
    Interface processor;
    Interface controller;
    Interface requirements;
    std::atomic<uint32_t> references{1};

    Plugin plugin;
    Buses buses;
    v3_process_setup setup{V3_REALTIME, V3_SAMPLE_32, 1024, 48000.0};
    std::atomic<bool> active{false};
    bool ardour = false;                                  // the host is Ardour or Mixbus: see hosts.h
    std::atomic<v3_component_handler**> handler{nullptr};  // the host's ear; null before it gives one
    std::atomic<bool> telling{false};                      // the host is being told
    std::atomic<int32_t> untold{0};                        // what it does not know yet, V3_RESTART_...
    std::atomic<uint32_t> latency_told{kNeverTold};        // that it has asked for, or been told to ask for

    std::atomic<uint32_t> seed_told{0};
    std::atomic<uint32_t> names_told{0};  // of Plugin::renames()

    // [audio]
    EventList events;
    bool processed = false;     // since activation or the last reset
    double told_status = -1.0;  // value of kStatus that the host was last told
    uint64_t told_changes = 0;  // of the plugin, by then
    int32_t nudged = 0;         // what was untold then
};

inline Instance& instance_of(void* self) {
    return *static_cast<Interface*>(self)->owner;
}

// The first three functions of every table.
v3_result query_interface(void* self, const v3_tuid iid, void** object);
uint32_t reference(void* self);
uint32_t release(void* self);

// The host's calls of the two base interfaces that component and controller share.
v3_result initialize(void* self, v3_funknown** context);
v3_result terminate(void* self);

extern const v3_component_cpp kComponentTable;                        // component.cpp
extern const v3_audio_processor_cpp kProcessorTable;                  // processor.cpp
extern const v3_process_context_requirements_cpp kRequirementsTable;  // processor.cpp
extern const v3_edit_controller_cpp kControllerTable;                 // controller.cpp

}  // namespace backline::vst3
