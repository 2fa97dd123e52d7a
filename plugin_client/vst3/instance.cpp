// Lifetime of a VST3 object, and its interfaces by id.
#include "instance.h"

namespace backline::vst3 {

Instance::Instance()
    : component{&kComponentTable, this},
      processor{&kProcessorTable, this},
      controller{&kControllerTable, this},
      requirements{&kRequirementsTable, this} {}

Instance::~Instance() {
    listen(nullptr);
}

void Instance::listen(v3_component_handler** ear) {
    if (ear != nullptr) v3_cpp_obj_ref(ear);
    if (v3_component_handler** const last = handler.exchange(ear)) v3_cpp_obj_unref(last);
}

v3_result query_interface(void* self, const v3_tuid iid, void** object) {
    if (object == nullptr) return V3_INVALID_ARG;
    Instance& instance = instance_of(self);
    Interface* found = nullptr;
    // Identity: whichever interface is asked, v3_funknown is the component.
    if (v3_tuid_match(iid, v3_funknown_iid) || v3_tuid_match(iid, v3_plugin_base_iid) ||
        v3_tuid_match(iid, v3_component_iid)) {
        found = &instance.component;
    } else if (v3_tuid_match(iid, v3_audio_processor_iid)) {
        found = &instance.processor;
    } else if (v3_tuid_match(iid, v3_edit_controller_iid)) {
        found = &instance.controller;
    } else if (v3_tuid_match(iid, v3_process_context_requirements_iid)) {
        found = &instance.requirements;
    }
    *object = found;
    if (found == nullptr) return V3_NO_INTERFACE;
    reference(found);
    return V3_OK;
}

uint32_t reference(void* self) {
    return instance_of(self).references.fetch_add(1, std::memory_order_relaxed) + 1;
}

uint32_t release(void* self) {
    Instance* instance = &instance_of(self);
    const uint32_t left = instance->references.fetch_sub(1, std::memory_order_acq_rel) - 1;
    if (left == 0) delete instance;
    return left;
}

// Hosts that do not notice that component and controller are one object call these twice.
v3_result initialize(void* self, v3_funknown** context) {
    Instance& instance = instance_of(self);
    instance.ardour = instance.ardour || is_ardour(context);
    return V3_OK;
}

v3_result terminate(void* self) {
    Instance& instance = instance_of(self);
    instance.active = false;
    instance.plugin.deactivate();
    instance.listen(nullptr);
    return V3_OK;
}

}  // namespace backline::vst3
