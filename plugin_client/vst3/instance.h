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

    Interface component;
    Interface processor;
    Interface controller;
    Interface requirements;
    std::atomic<uint32_t> references{1};

    Plugin plugin;
    Buses buses;
    v3_process_setup setup{V3_REALTIME, V3_SAMPLE_32, 1024, 48000.0};
    std::atomic<bool> active{false};
    v3_component_handler** handler = nullptr;  // [main] the host's ear; null before it gives one
    bool telling = false;                      // [main] the host is being told, and may call back
    std::atomic<uint32_t> latency_told{kNeverTold};

    // [audio]
    EventList events;
    bool processed = false;     // since activation or the last reset
    double told_status = -1.0;  // value of kStatus that the host was last told
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

// [main] Tells the host what has changed (V3_RESTART_...), and that the latency has where that is so.
void tell_host(Instance& instance, int32_t changed);

extern const v3_component_cpp kComponentTable;                        // component.cpp
extern const v3_audio_processor_cpp kProcessorTable;                  // processor.cpp
extern const v3_process_context_requirements_cpp kRequirementsTable;  // processor.cpp
extern const v3_edit_controller_cpp kControllerTable;                 // controller.cpp

}  // namespace backline::vst3
