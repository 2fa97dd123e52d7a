// IEditController: the parameters as a host shows, automates and stores them.
#include <algorithm>
#include <string>

#include "instance.h"
#include "text.h"
#include "values.h"

namespace backline::vst3 {

namespace {

// The component has the state already: it is this very object.
v3_result set_component_state(void*, v3_bstream**) {
    return V3_OK;
}

// A view would have a state of its own; there is none.
v3_result set_state(void*, v3_bstream**) {
    return V3_NOT_IMPLEMENTED;
}
v3_result get_state(void*, v3_bstream**) {
    return V3_NOT_IMPLEMENTED;
}

int32_t get_parameter_count(void*) {
    return kParameterCount;
}

// To Ardour the status is none of the read-only values, so that it shows words; what it sets is ignored all the same.
// Nor does it look again at what has once been hidden.
int32_t flags_of(const Instance& instance, uint32_t parameter, const Face& face) {
    const ParameterInfo& info = parameters()[parameter];
    int32_t flags = face.named ? V3_PARAM_IS_LIST : 0;
    if (face.hidden && !instance.ardour) flags |= V3_PARAM_IS_HIDDEN;
    if (parameter == kBypass) flags |= V3_PARAM_IS_BYPASS;
    return flags | (info.read_only && !instance.ardour ? V3_PARAM_READ_ONLY : V3_PARAM_CAN_AUTOMATE);
}

v3_result get_parameter_info(void* self, int32_t index, v3_param_info* result) {
    if (result == nullptr || index < 0 || index >= int32_t{kParameterCount}) return V3_INVALID_ARG;
    const auto parameter = static_cast<uint32_t>(index);
    const Instance& instance = instance_of(self);
    const Face face = instance.plugin.face(parameter);
    *result = {};
    result->param_id = parameter;
    to_utf16(face.name, result->title, 128);
    to_utf16(face.name, result->short_title, 128);
    to_utf16(face.unit, result->units, 128);
    result->step_count =
        is_slot(parameter) ? static_cast<int32_t>(face.steps) : step_count(parameter, instance.packs());
    result->default_normalised_value = to_normalised(parameter, face.initial, instance.packs());
    result->flags = flags_of(instance, parameter, face);
    return V3_OK;
}

// Without the unit: the host writes that itself. The status as it is now says more than its name: what to do.
v3_result get_parameter_string_for_value(void* self, v3_param_id parameter, double normalised, v3_str_128 result) {
    if (parameter >= kParameterCount) return V3_INVALID_ARG;
    const Instance& instance = instance_of(self);
    const Plugin& plugin = instance.plugin;
    const double plain = to_plain(parameter, normalised, instance.packs());
    std::string text = plugin.parameter_text(parameter, plain);
    // Ardour shows some 28 characters, of which a status that asks for nothing needs no more than its name.
    const bool asks = plain >= static_cast<double>(Status::late);
    if (parameter == kStatus && plain == plugin.parameter(kStatus) && (asks || !instance.ardour))
        text += ": " + plugin.brief_message();
    const std::string unit = " " + plugin.face(parameter).unit;
    if (unit.size() > 1 && text.size() > unit.size() && text.compare(text.size() - unit.size(), unit.size(), unit) == 0)
        text.resize(text.size() - unit.size());
    to_utf16(text, result, 128);
    return V3_OK;
}

v3_result get_parameter_value_for_string(void* self, v3_param_id parameter, int16_t* text, double* result) {
    if (parameter >= kParameterCount || text == nullptr || result == nullptr) return V3_INVALID_ARG;
    std::string given = from_utf16(text, 128);
    if (parameter == kStatus) given.resize(std::min(given.size(), given.find(": ")));
    Instance& instance = instance_of(self);
    double plain = 0.0;
    if (!instance.plugin.parameter_value(parameter, given, plain)) return V3_FALSE;
    if (parameter == kPack && plain >= instance.packs()) return V3_FALSE;
    *result = to_normalised(parameter, plain, instance.packs());
    return V3_OK;
}

double normalised_parameter_to_plain(void* self, v3_param_id parameter, double normalised) {
    return parameter < kParameterCount ? to_plain(parameter, normalised, instance_of(self).packs()) : 0.0;
}

double plain_parameter_to_normalised(void* self, v3_param_id parameter, double plain) {
    return parameter < kParameterCount ? to_normalised(parameter, plain, instance_of(self).packs()) : 0.0;
}

double get_parameter_normalised(void* self, v3_param_id parameter) {
    if (parameter >= kParameterCount) return 0.0;
    const Instance& instance = instance_of(self);
    const double normalised = to_normalised(parameter, instance.plugin.parameter(parameter), instance.packs());
    return instance.ardour ? static_cast<float>(normalised) : normalised;
}

// The host hands values here that it shows, also the read-only ones that we told it.
v3_result set_parameter_normalised(void* self, v3_param_id parameter, double normalised) {
    if (parameter >= kParameterCount) return V3_INVALID_ARG;
    Instance& instance = instance_of(self);
    const double plain = to_plain(parameter, normalised, instance.packs());
    if (!parameters()[parameter].read_only)
        instance.plugin.set_parameter(parameter, plain);
    else if (instance.ardour && plain != instance.plugin.parameter(parameter))
        instance.untold |= V3_RESTART_PARAM_VALUES_CHANGED;  // its user has moved it: it is to move back
    if (!instance.active) instance.plugin.follow_pack();
    note_names(instance);
    if (instance.active) note_news(instance);
    tell_host(instance, 0);
    return V3_OK;
}

v3_result set_component_handler(void* self, v3_component_handler** handler) {
    instance_of(self).listen(handler);
    return V3_OK;
}

v3_plugin_view** create_view(void*, const char*) {
    return nullptr;
}  // the host's own parameter view serves

}  // namespace

const v3_edit_controller_cpp kControllerTable = {
    {query_interface, reference, release},
    {initialize, terminate},
    {set_component_state, set_state, get_state, get_parameter_count, get_parameter_info, get_parameter_string_for_value,
     get_parameter_value_for_string, normalised_parameter_to_plain, plain_parameter_to_normalised,
     get_parameter_normalised, set_parameter_normalised, set_component_handler, create_view},
};

}  // namespace backline::vst3
