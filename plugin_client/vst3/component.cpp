// IComponent: buses, activation, and the state that a project keeps.
#include "instance.h"
#include "stream.h"

namespace backline::vst3 {

namespace {

// There is no other class to create: the host asks this object for its controller.
v3_result get_controller_class_id(void*, v3_tuid) {
    return V3_NOT_IMPLEMENTED;
}

v3_result set_io_mode(void*, int32_t) {
    return V3_NOT_IMPLEMENTED;
}

int32_t get_bus_count(void*, int32_t media, int32_t direction) {
    return Buses::count(media, direction);
}

v3_result get_bus_info(void* self, int32_t media, int32_t direction, int32_t index, v3_bus_info* info) {
    if (info == nullptr || !instance_of(self).buses.describe(media, direction, index, *info)) return V3_INVALID_ARG;
    return V3_OK;
}

v3_result get_routing_info(void*, v3_routing_info*, v3_routing_info*) {
    return V3_NOT_IMPLEMENTED;
}

v3_result activate_bus(void* self, int32_t media, int32_t direction, int32_t index, v3_bool active) {
    return instance_of(self).buses.activate(media, direction, index, active != 0) ? V3_OK : V3_INVALID_ARG;
}

v3_result set_active(void* self, v3_bool active) {
    Instance& instance = instance_of(self);
    if ((active != 0) == instance.active) return V3_OK;
    if (active == 0) {
        instance.active = false;
        instance.plugin.deactivate();
        return V3_OK;
    }
    const v3_process_setup& setup = instance.setup;
    const auto most_frames = static_cast<uint32_t>(setup.max_block_size);
    if (!instance.plugin.activate(setup.sample_rate, most_frames, true)) return V3_FALSE;
    instance.buses.prepare(most_frames);
    instance.processed = false;
    instance.active = true;
    return V3_OK;
}

v3_result set_state(void* self, v3_bstream** stream) {
    if (stream == nullptr) return V3_INVALID_ARG;
    Instance& instance = instance_of(self);
    const auto bytes = read_all(stream);
    const uint32_t packs = instance.packs();
    if (!bytes || !instance.plugin.load_state(bytes->data(), bytes->size())) return V3_FALSE;
    note_names(instance);
    tell_host(instance, V3_RESTART_PARAM_VALUES_CHANGED |
                            (instance.packs() == packs ? 0 : V3_RESTART_PARAM_TITLES_CHANGED));
    return V3_OK;
}

v3_result get_state(void* self, v3_bstream** stream) {
    if (stream == nullptr) return V3_INVALID_ARG;
    return write_all(stream, instance_of(self).plugin.save_state()) ? V3_OK : V3_FALSE;
}

}  // namespace

const v3_component_cpp kComponentTable = {
    {query_interface, reference, release},
    {initialize, terminate},
    {get_controller_class_id, set_io_mode, get_bus_count, get_bus_info, get_routing_info, activate_bus, set_active,
     set_state, get_state},
};

}  // namespace backline::vst3
