// The host that a VST3 object lives in: who it is, what it is to be told, and when.
#include "hosts.h"

#include <host.h>

#include <string>

#include "instance.h"
#include "text.h"

namespace backline::vst3 {

namespace {

constexpr int32_t kListChanged = V3_RESTART_PARAM_TITLES_CHANGED | V3_RESTART_PARAM_VALUES_CHANGED;

}  // namespace

bool is_ardour(v3_funknown** context) {
    v3_host_application** application = nullptr;
    if (context == nullptr || v3_cpp_obj_query_interface(context, v3_host_application_iid, &application) != V3_OK ||
        application == nullptr)
        return false;
    v3_str_128 wide = {};
    const bool named = v3_cpp_obj(application)->get_name(application, wide) == V3_OK;
    v3_cpp_obj_unref(application);
    const std::string name = named ? from_utf16(wide, 128) : "";
    return name.rfind("Ardour", 0) == 0 || name.rfind("Mixbus", 0) == 0;
}

void note_names(Instance& instance) noexcept {
    const uint32_t names = instance.plugin.renames();
    if (instance.names_told.exchange(names) != names) instance.untold |= kListChanged;
}

void note_news(Instance& instance) noexcept {
    note_names(instance);
    const uint32_t latency = instance.plugin.latency_samples(instance.setup.sample_rate);
    const uint32_t told = instance.latency_told;
    if (told != kNeverTold && told != latency) {
        instance.latency_told = latency;
        instance.untold |= V3_RESTART_LATENCY_CHANGED;
    }
    const uint32_t seed = instance.plugin.drawn_seed();
    if (instance.seed_told.exchange(seed) != seed) instance.untold |= V3_RESTART_PARAM_VALUES_CHANGED;  // its text
    // Ardour has read the list for good.
    if (!instance.ardour && instance.plugin.more_packs()) instance.untold |= kListChanged;
}

void tell_host(Instance& instance, int32_t changed) noexcept {
    changed |= instance.untold.exchange(0);
    if (!instance.ardour && (changed & kListChanged) == kListChanged && instance.plugin.more_packs())
        instance.plugin.show_packs();
    v3_component_handler** const handler = instance.handler;
    if (changed == 0 || handler == nullptr) return;
    if (instance.telling.exchange(true)) {  // it may call back
        instance.untold |= changed;
        return;
    }
    v3_cpp_obj(handler)->restart_component(handler, changed);
    instance.telling = false;
}

}  // namespace backline::vst3
