// What a host finds in the binary: the module's entry points, and the factory of its one class.
#include <factory.h>

#include <cstdio>
#include <new>
#include <type_traits>

#include "instance.h"
#include "text.h"

namespace backline::vst3 {

namespace {

constexpr int32_t kManyInstances = 0x7FFFFFFF;
constexpr int32_t kUnicode = 0x10;
constexpr char kVendor[] = "Backline";
constexpr char kName[] = "Backline";
constexpr char kCategory[] = "Audio Module Class";
constexpr char kSubCategories[] = "Fx|Generator";
constexpr char kInterfaceVersion[] = "VST 3.7.0";
// Never changes: projects find the plugin by it.
constexpr v3_tuid kClassId = V3_ID(0xB8E7C6D1, 0x0F2A4D53, 0x9C41E07A, 0x5B1D96F4);

template <size_t capacity>
void copy(char (&target)[capacity], const char* text) {
    std::snprintf(target, capacity, "%s", text);
}

template <size_t capacity>
void copy(int16_t (&target)[capacity], const char* text) {
    to_utf16(text, target, capacity);
}

// The three descriptions of a class differ in what they hold and in how they spell it.
template <class Info>
v3_result describe(int32_t index, Info* info) {
    if (index != 0 || info == nullptr) return V3_INVALID_ARG;
    *info = {};
    for (size_t byte = 0; byte < sizeof(v3_tuid); ++byte) info->class_id[byte] = kClassId[byte];
    info->cardinality = kManyInstances;
    copy(info->category, kCategory);
    copy(info->name, kName);
    if constexpr (!std::is_same_v<Info, v3_class_info>) {
        copy(info->sub_categories, kSubCategories);
        copy(info->vendor, kVendor);
        copy(info->version, BACKLINE_VERSION);
        copy(info->sdk_version, kInterfaceVersion);
    }
    return V3_OK;
}

v3_result query_factory(void* self, const v3_tuid iid, void** object) {
    if (object == nullptr) return V3_INVALID_ARG;
    const bool known = v3_tuid_match(iid, v3_funknown_iid) || v3_tuid_match(iid, v3_plugin_factory_iid) ||
                       v3_tuid_match(iid, v3_plugin_factory_2_iid) || v3_tuid_match(iid, v3_plugin_factory_3_iid);
    *object = known ? self : nullptr;
    return known ? V3_OK : V3_NO_INTERFACE;
}

// The factory lives as long as the module: there is nothing to count.
uint32_t keep(void*) {
    return 1;
}

v3_result get_factory_info(void*, v3_factory_info* info) {
    if (info == nullptr) return V3_INVALID_ARG;
    *info = {};
    copy(info->vendor, kVendor);
    info->flags = kUnicode;
    return V3_OK;
}

int32_t num_classes(void*) {
    return 1;
}

v3_result create_instance(void*, const v3_tuid class_id, const v3_tuid iid, void** object) {
    if (object == nullptr) return V3_INVALID_ARG;
    *object = nullptr;
    if (!v3_tuid_match(class_id, kClassId)) return V3_NO_INTERFACE;
    auto* instance = new (std::nothrow) Instance;
    if (instance == nullptr) return V3_NOMEM;
    const v3_result result = query_interface(&instance->component, iid, object);
    release(&instance->component);
    return result;
}

v3_result set_host_context(void*, v3_funknown**) {
    return V3_OK;
}

const v3_plugin_factory_cpp kFactoryTable = {
    {query_factory, keep, keep},
    {get_factory_info, num_classes, [](void*, int32_t index, v3_class_info* info) { return describe(index, info); },
     create_instance},
    {[](void*, int32_t index, v3_class_info_2* info) { return describe(index, info); }},
    {[](void*, int32_t index, v3_class_info_3* info) { return describe(index, info); }, set_host_context},
};

Interface factory{&kFactoryTable, nullptr};

}  // namespace

}  // namespace backline::vst3

#define BACKLINE_EXPORT extern "C" __attribute__((visibility("default")))

BACKLINE_EXPORT void* GetPluginFactory() {
    return &backline::vst3::factory;
}
BACKLINE_EXPORT bool ModuleEntry(void*) {
    return true;
}
BACKLINE_EXPORT bool ModuleExit() {
    return true;
}
