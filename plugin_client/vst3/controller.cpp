// IEditController: the parameters as a host shows, automates and stores them.
#include <algorithm>
#include <string>

#include "instance.h"
#include "text.h"
#include "values.h"

namespace backline::vst3 {

namespace {

constexpr int32_t kLongestList = 64;  // more steps than this are dialled, not chosen from a menu

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

int32_t flags_of(uint32_t parameter) {
    const ParameterInfo& info = parameters()[parameter];
    if (parameter == kBypass) return V3_PARAM_CAN_AUTOMATE | V3_PARAM_IS_BYPASS;
    const int32_t steps = step_count(parameter);
    int32_t flags = steps > 0 && steps <= kLongestList ? V3_PARAM_IS_LIST : 0;
    if (info.read_only) return flags | V3_PARAM_READ_ONLY;
    return info.automatable ? flags | V3_PARAM_CAN_AUTOMATE : flags;
}

v3_result get_parameter_info(void*, int32_t index, v3_param_info* result) {
    if (result == nullptr || index < 0 || index >= int32_t{kParameterCount}) return V3_INVALID_ARG;
    const auto parameter = static_cast<uint32_t>(index);
    const ParameterInfo& info = parameters()[parameter];
    *result = {};
    result->param_id = parameter;
    to_utf16(info.name, result->title, 128);
    to_utf16(info.name, result->short_title, 128);
    to_utf16(info.unit, result->units, 128);
    result->step_count = step_count(parameter);
    result->default_normalised_value = to_normalised(parameter, info.initial);
    result->flags = flags_of(parameter);
    return V3_OK;
}

// Without the unit: the host writes that itself. The status as it is now says more than its name: what to do.
v3_result get_parameter_string_for_value(void* self, v3_param_id parameter, double normalised, v3_str_128 result) {
    if (parameter >= kParameterCount) return V3_INVALID_ARG;
    const Plugin& plugin = instance_of(self).plugin;
    const double plain = to_plain(parameter, normalised);
    std::string text = plugin.parameter_text(parameter, plain);
    if (parameter == kStatus && plain == plugin.parameter(kStatus)) text += ": " + plugin.message();
    const std::string unit = std::string(" ") + parameters()[parameter].unit;
    if (unit.size() > 1 && text.size() > unit.size() && text.compare(text.size() - unit.size(), unit.size(), unit) == 0)
        text.resize(text.size() - unit.size());
    to_utf16(text, result, 128);
    return V3_OK;
}

v3_result get_parameter_value_for_string(void* self, v3_param_id parameter, int16_t* text, double* result) {
    if (parameter >= kParameterCount || text == nullptr || result == nullptr) return V3_INVALID_ARG;
    std::string given = from_utf16(text, 128);
    if (parameter == kStatus) given.resize(std::min(given.size(), given.find(": ")));
    double plain = 0.0;
    if (!instance_of(self).plugin.parameter_value(parameter, given, plain)) return V3_FALSE;
    *result = to_normalised(parameter, plain);
    return V3_OK;
}

double normalised_parameter_to_plain(void*, v3_param_id parameter, double normalised) {
    return parameter < kParameterCount ? to_plain(parameter, normalised) : 0.0;
}

double plain_parameter_to_normalised(void*, v3_param_id parameter, double plain) {
    return parameter < kParameterCount ? to_normalised(parameter, plain) : 0.0;
}

double get_parameter_normalised(void* self, v3_param_id parameter) {
    if (parameter >= kParameterCount) return 0.0;
    return to_normalised(parameter, instance_of(self).plugin.parameter(parameter));
}

// The host hands values here that it shows, also the read-only ones that we told it.
v3_result set_parameter_normalised(void* self, v3_param_id parameter, double normalised) {
    if (parameter >= kParameterCount) return V3_INVALID_ARG;
    const ParameterInfo& info = parameters()[parameter];
    if (info.read_only) return V3_OK;
    Instance& instance = instance_of(self);
    instance.plugin.set_parameter(parameter, to_plain(parameter, normalised));
    if (info.restarts) tell_host(instance, 0);
    return V3_OK;
}

v3_result set_component_handler(void* self, v3_component_handler** handler) {
    Instance& instance = instance_of(self);
    if (handler != nullptr) v3_cpp_obj_ref(handler);
    if (instance.handler != nullptr) v3_cpp_obj_unref(instance.handler);
    instance.handler = handler;
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
