// What Debian's copy of the CLAP headers lacks, declared from CLAP's public ABI.
#pragma once

#include <clap/plugin.h>

namespace backline::clap {

// Of a stepped parameter: each value has a name, and hosts show them as a list.
constexpr uint32_t kIsEnum = 1u << 16;

// clap.render: whether the host plays or bounces.
constexpr char kRenderExtension[] = "clap.render";
constexpr int32_t kRenderRealtime = 0;
constexpr int32_t kRenderOffline = 1;

struct RenderExtension {
    bool(CLAP_ABI* has_hard_realtime_requirement)(const clap_plugin_t* plugin);  // [main]
    bool(CLAP_ABI* set)(const clap_plugin_t* plugin, int32_t mode);              // [main]
};

// clap.tail: samples that sound after the input has fallen silent.
constexpr char kTailExtension[] = "clap.tail";
constexpr uint32_t kInfiniteTail = INT32_MAX;  // this and everything above

struct TailExtension {
    uint32_t(CLAP_ABI* get)(const clap_plugin_t* plugin);  // [main, audio]
};

}  // namespace backline::clap
