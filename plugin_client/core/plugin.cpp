// The instance that the shells see: settings, what is active between activate and deactivate, and their hand-over.
#include "plugin.h"

#include <algorithm>
#include <cmath>

#include "delay.h"
#include "settings.h"
#include "state.h"

namespace backline {
namespace {
constexpr uint32_t kPiece = 256;
}

struct Plugin::Impl {
    Settings settings;
    std::atomic<bool> active{false};
    std::atomic<uint32_t> latency{0};
    int64_t position = 0;
    int64_t floor = 0;
    std::unique_ptr<Delay> delay;

    uint32_t wanted_latency(double rate) const {
        const double budget = settings.value(kMode) == 0.0 ? settings.value(kLatencyBudget) : 0.0;
        return static_cast<uint32_t>(std::lround(budget * rate));
    }
};

Plugin::Plugin() : impl_(std::make_unique<Impl>()) {}
Plugin::~Plugin() {
    deactivate();
}

bool Plugin::activate(double sample_rate, uint32_t max_frames) {
    if (impl_->active || !(sample_rate >= 8000.0 && sample_rate <= 192000.0) || max_frames == 0) return false;
    impl_->latency = impl_->wanted_latency(sample_rate);
    impl_->delay = std::make_unique<Delay>(impl_->latency, kPiece);
    impl_->position = impl_->floor = 0;
    impl_->active = true;
    return true;
}

void Plugin::deactivate() {
    impl_->active = false;
}
bool Plugin::active() const {
    return impl_->active;
}
void Plugin::set_offline(bool) {}

void Plugin::process(const Block& block) noexcept {
    Impl& impl = *impl_;
    for (size_t i = 0; i < block.event_count; ++i)
        if (block.events[i].kind == Event::Kind::parameter)
            set_parameter(block.events[i].parameter, block.events[i].value);
    for (uint32_t begin = 0; begin < block.frames; begin += kPiece) {
        const uint32_t count = std::min(kPiece, block.frames - begin);
        float dry[kPiece][kChannels];
        impl.delay->write(impl.position, block.main_input, begin, count);
        impl.delay->read(impl.position - impl.latency, impl.floor, dry, count);
        for (uint32_t output = 0; output < kOutputs; ++output)
            for (uint32_t channel = 0; channel < kChannels; ++channel)
                if (float* out = block.outputs[output][channel])
                    for (uint32_t i = 0; i < count; ++i) out[begin + i] = output == 0 ? dry[i][channel] : 0.0f;
        impl.position += count;
    }
}

void Plugin::reset() noexcept {
    impl_->floor = impl_->position;
}

uint32_t Plugin::latency_samples(double sample_rate) const {
    return impl_->active ? impl_->latency.load() : impl_->wanted_latency(sample_rate);
}
bool Plugin::wants_restart() const {
    return false;
}

void Plugin::set_parameter(uint32_t index, double value) noexcept {
    if (index < kStatus) impl_->settings.set_value(index, value);
}
double Plugin::parameter(uint32_t index) const noexcept {
    if (index == kStatus) return static_cast<double>(status());
    return index < kParameterCount ? impl_->settings.value(index) : 0.0;
}

std::string Plugin::parameter_text(uint32_t index, double value) const {
    if (index == kPack) {
        const std::string name = impl_->settings.pack(static_cast<uint32_t>(clamp_parameter(kPack, value)));
        if (!name.empty()) return name;
    }
    return parameter_to_text(index, value);
}

bool Plugin::parameter_value(uint32_t index, const std::string& text, double& value) const {
    if (index == kPack) {
        const std::vector<std::string> packs = impl_->settings.packs();
        const auto found = std::find(packs.begin(), packs.end(), text);
        if (found != packs.end()) return value = static_cast<double>(found - packs.begin()), true;
    }
    return parameter_from_text(index, text, value);
}

std::vector<uint8_t> Plugin::save_state() const {
    return encode_state(impl_->settings.state());
}

bool Plugin::load_state(const uint8_t* data, size_t size) {
    State state;
    if (!decode_state(data, size, state)) return false;
    impl_->settings.set_state(state);
    return true;
}

void Plugin::set_endpoint(const std::string& endpoint) {
    impl_->settings.set_endpoint(endpoint);
}

Status Plugin::status() const noexcept {
    return impl_->active ? Status::connecting : Status::idle;
}
std::string Plugin::message() const {
    return "";
}
Meters Plugin::meters() noexcept {
    return {};
}

}  // namespace backline
