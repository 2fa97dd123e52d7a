// The parameters: their ids are the core's indices.
#include <clap/ext/params.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>

#include "extensions.h"
#include "instance.h"

namespace backline::clap {
namespace {

uint32_t count(const clap_plugin_t*) {
    return kParameterCount;
}

// Cuts a text that is too long between two characters, not within one of several bytes.
void copy_text(const std::string& text, char* out, uint32_t size) {
    size_t length = text.size();
    if (length >= size) {
        length = size - 1;
        while (length > 0 && (text[length] & 0xc0) == 0x80) --length;
    }
    text.copy(out, length);
    out[length] = '\0';
}

bool get_info(const clap_plugin_t* plugin, uint32_t index, clap_param_info_t* info) {
    if (!info || index >= kParameterCount) return false;
    const ParameterInfo& parameter = parameters()[index];
    const Face face = instance_of(plugin).plugin.face(index);
    *info = {};
    info->id = index;
    if (parameter.stepped) info->flags |= CLAP_PARAM_IS_STEPPED;
    if (parameter.named) info->flags |= kIsEnum;
    info->flags |= parameter.read_only ? CLAP_PARAM_IS_READONLY : CLAP_PARAM_IS_AUTOMATABLE;
    if (face.hidden) info->flags |= CLAP_PARAM_IS_HIDDEN;
    if (index == kBypass) info->flags |= CLAP_PARAM_IS_BYPASS;
    info->min_value = parameter.minimum;
    info->max_value = instance_of(plugin).plugin.maximum(index);
    info->default_value = face.initial;
    copy_text(face.name, info->name, sizeof info->name);
    return true;
}

bool get_value(const clap_plugin_t* plugin, clap_id id, double* value) {
    if (!value || id >= kParameterCount) return false;
    *value = instance_of(plugin).plugin.parameter(id);
    return true;
}

// The present status says more than its name: what to do, after a colon.
std::string text_of(const Plugin& plugin, clap_id id, double value) {
    std::string text = plugin.parameter_text(id, value);
    if (id == kStatus && value == plugin.parameter(kStatus)) {
        const std::string message = plugin.message();
        if (!message.empty()) text += ": " + message;
    }
    return text;
}

bool value_to_text(const clap_plugin_t* plugin, clap_id id, double value, char* display, uint32_t size) {
    if (!display || size == 0 || id >= kParameterCount || std::isnan(value)) return false;
    copy_text(text_of(instance_of(plugin).plugin, id, value), display, size);
    return true;
}

bool text_to_value(const clap_plugin_t* plugin, clap_id id, const char* display, double* value) {
    if (!display || !value || id >= kParameterCount) return false;
    std::string text = display;
    if (id == kStatus) text.erase(std::min(text.find(": "), text.size()));
    return instance_of(plugin).plugin.parameter_value(id, text, *value);
}

void flush(const clap_plugin_t* plugin, const clap_input_events_t* in, const clap_output_events_t*) {
    Instance& self = instance_of(plugin);
    const uint32_t events = in ? in->size(in) : 0;
    for (uint32_t index = 0; index < events; ++index) {
        const clap_event_header_t* event = in->get(in, index);
        uint32_t parameter;
        double value;
        if (event && read_parameter(*event, parameter, value)) self.plugin.set_parameter(parameter, value);
    }
    self.notify_host();
}

constexpr clap_plugin_params_t kParams = {count, get_info, get_value, value_to_text, text_to_value, flush};

}  // namespace

const void* params_extension() {
    return &kParams;
}

}  // namespace backline::clap
