// The .clap's way in: the one exported symbol, the factory and the descriptor.
#include <clap/entry.h>
#include <clap/plugin-factory.h>

#include <atomic>
#include <cstring>
#include <exception>

#include "instance.h"

namespace backline::clap {

namespace {
const char* kFeatures[] = {CLAP_PLUGIN_FEATURE_AUDIO_EFFECT, CLAP_PLUGIN_FEATURE_MULTI_EFFECTS,
                           CLAP_PLUGIN_FEATURE_STEREO, nullptr};
}  // namespace

const clap_plugin_descriptor_t kDescriptor = {
    CLAP_VERSION_INIT,
    "dev.backline.backline",
    "Backline",
    "Backline",
    "",
    "",
    "",
    BACKLINE_VERSION,
    "Music models that play along, from a server beside the DAW",
    kFeatures,
};

namespace {

std::atomic<int> entered{0};  // init() less deinit()

uint32_t plugin_count(const clap_plugin_factory_t*) {
    return 1;
}

const clap_plugin_descriptor_t* plugin_descriptor(const clap_plugin_factory_t*, uint32_t index) {
    return index == 0 ? &kDescriptor : nullptr;
}

const clap_plugin_t* create_plugin(const clap_plugin_factory_t*, const clap_host_t* host, const char* id) {
    if (!host || !clap_version_is_compatible(host->clap_version) || !id || std::strcmp(id, kDescriptor.id) != 0) {
        return nullptr;
    }
    try {
        return &(new Instance(host))->abi;
    } catch (const std::exception&) {
        return nullptr;
    }
}

constexpr clap_plugin_factory_t kFactory = {plugin_count, plugin_descriptor, create_plugin};

bool init(const char*) {
    ++entered;
    return true;
}

void deinit() {
    --entered;
}

const void* get_factory(const char* id) {
    if (entered <= 0 || !id || std::strcmp(id, CLAP_PLUGIN_FACTORY_ID) != 0) return nullptr;
    return &kFactory;
}

}  // namespace
}  // namespace backline::clap

const clap_plugin_entry_t clap_entry = {CLAP_VERSION_INIT, backline::clap::init, backline::clap::deinit,
                                        backline::clap::get_factory};
