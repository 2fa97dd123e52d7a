// The instance that the shells see: settings, what is active between activate and deactivate, and their hand-over.
#include "plugin.h"

#include <algorithm>
#include <cmath>

#include "exchange.h"
#include "player.h"
#include "settings.h"
#include "settling.h"
#include "state.h"
#include "worker.h"

namespace backline {
namespace {

constexpr double kLowestRate = 8000.0, kHighestRate = 192000.0;

}  // namespace

// What exists between activate and deactivate. The worker is last, so that it ends first.
struct Active {
    Active(Settings& settings, const Activation& activation, Shown& shown, Advised& advised)
        : exchange(activation), player(settings, exchange), worker(settings, exchange, shown, advised) {}

    Exchange exchange;
    Player player;
    Worker worker;
};

struct Plugin::Impl {
    Settings settings;
    std::atomic<bool> offline{false};
    // Changed by the main thread only, under the lock; the audio thread reads it while the host keeps it active.
    mutable std::mutex mutex;
    Advised advised;  // while active the worker's
    std::unique_ptr<Active> active;
    std::atomic<bool> is_active{false};
    Shown shown;
    std::atomic<Timing> timing{};          // while active
    std::atomic<double> sample_rate{0.0};  // while active
    std::atomic<bool> bouncing{false}, rolling{false};  // as the newest call says
    Settling settling;                     // of the timing that is wanted
    // What was failed when it was deactivated: hosts that do so right after a bounce (Ardour) would never show it. It
    // stands until the next bounce, or until the host plays.
    std::atomic<bool> failed{false};
    Words failure;  // under the lock

    Timing wanted(double sample_rate) const {
        if (settings.value(kMode) != 0.0) return {0, true};
        return {static_cast<uint32_t>(std::lround(settings.value(kLatencyBudget) * sample_rate)), false};
    }
    void look_at_wanted(double seconds) {
        const Timing timing = wanted(sample_rate);
        settling.look(uint64_t{timing.latency} << 1 | timing.live, seconds, Settling::Clock::now());
    }

    Words words() const {
        const std::lock_guard lock(mutex);
        return failed ? failure : active ? active->worker.words() : words::inactive();
    }

    // What `ask` says of the active instance, or `otherwise`.
    template <class Value, class Ask>
    Value ask_active(Value otherwise, Ask ask) const {
        const std::lock_guard lock(mutex);
        return active ? ask(*active) : otherwise;
    }
};

Plugin::Plugin() : impl_(std::make_unique<Impl>()) {}

Plugin::~Plugin() {
    deactivate();
}

// ---- life ------------------------------------------------------------------------------------------------------

bool Plugin::activate(double sample_rate, uint32_t max_frames, bool retimes) {
    Impl& impl = *impl_;
    if (impl.is_active || !(sample_rate >= kLowestRate && sample_rate <= kHighestRate) || max_frames == 0) return false;
    const Timing timing = impl.wanted(sample_rate);
    follow_pack();
    const double most = retimes ? std::ceil(parameters()[kLatencyBudget].maximum * sample_rate) : timing.latency;
    const Activation activation{sample_rate, max_frames, timing, static_cast<uint32_t>(most)};
    try {
        auto active = std::make_unique<Active>(impl.settings, activation, impl.shown, impl.advised);
        active->exchange.offline = impl.offline.load();
        const std::lock_guard lock(impl.mutex);
        impl.active = std::move(active);
    } catch (const std::exception&) {  // no memory, no thread: the host goes on without us
        return false;
    }
    impl.sample_rate = sample_rate;
    impl.timing = timing;
    impl.bouncing = impl.rolling = false;
    impl.look_at_wanted(0.0);
    impl.is_active = true;
    return true;
}

void Plugin::deactivate() {
    impl_->is_active = false;
    std::unique_ptr<Active> ended;
    const std::lock_guard lock(impl_->mutex);
    ended.swap(impl_->active);
    if (!ended || impl_->shown.status != Status::failed) return;
    impl_->failure = ended->worker.words();
    impl_->failed = true;
    ++impl_->shown.changes;
}

bool Plugin::active() const {
    return impl_->is_active;
}

void Plugin::set_offline(bool offline) {
    impl_->offline = offline;
    impl_->ask_active(0, [&](Active& active) {
        active.exchange.offline = offline;
        active.exchange.wake_worker();
        return 0;
    });
}

// ---- audio -----------------------------------------------------------------------------------------------------

void Plugin::process(const Block& block) noexcept {
    Impl& impl = *impl_;
    if (impl.failed && (block.offline || impl.offline || (block.transport && block.transport->playing))) {
        impl.failed = false;
        ++impl.shown.changes;
    }
    impl.active->player.process(block);
    impl.bouncing = block.offline;
    impl.rolling = block.transport && block.transport->playing;
    impl.look_at_wanted(block.frames / impl.sample_rate);
}

void Plugin::reset() noexcept {
    if (impl_->is_active) impl_->active->player.reset();
}

uint32_t Plugin::latency_samples(double sample_rate) const {
    return impl_->is_active ? impl_->timing.load().latency : impl_->wanted(sample_rate).latency;
}

bool Plugin::wants_restart() const noexcept {
    const Impl& impl = *impl_;
    if (!impl.is_active || impl.offline || impl.bouncing || impl.timing.load() == impl.wanted(impl.sample_rate))
        return false;
    return impl.settling.stands(Settling::Clock::now());
}

void Plugin::retime() noexcept {
    if (!wants_restart()) return;
    const Timing timing = impl_->wanted(impl_->sample_rate);
    impl_->active->player.retime(timing);
    impl_->timing = timing;
}

// ---- parameters and state --------------------------------------------------------------------------------------

void Plugin::set_parameter(uint32_t index, double value) noexcept {
    if (!is_setting(index)) return;
    impl_->settings.set_value(index, value);
    if (parameters()[index].restarts) impl_->look_at_wanted(0.0);
}
double Plugin::parameter(uint32_t index) const noexcept {
    if (index == kStatus) return static_cast<double>(status());
    return index < kParameterCount ? impl_->settings.value(index) : 0.0;
}

double Plugin::maximum(uint32_t index) const noexcept {
    return index < kParameterCount ? impl_->settings.maximum(index) : 0.0;
}

Face Plugin::face(uint32_t index) const {
    if (index >= kParameterCount) return {};
    const ParameterInfo& info = parameters()[index];
    const Face face{info.name, info.unit, info.initial, 0, info.named, is_slot(index)};
    net::PackParameter parameter;
    if (!is_slot(index) || !impl_->settings.slots.describe(index - kFirstSlot, parameter)) return face;
    const uint32_t steps = slot_steps(parameter);
    return {parameter.name, parameter.unit, slot_from_plain(parameter, parameter.default_value), steps,
            steps > 0 && parameter.labels.size() > steps, false};
}

uint32_t Plugin::renames() const noexcept {
    return impl_->settings.slots.renames() + impl_->settings.prompts.version();
}

void Plugin::follow_pack() {
    if (!impl_->is_active) impl_->settings.follow_pack(static_cast<uint32_t>(impl_->settings.value(kPack)));
}

std::vector<WrittenText> Plugin::texts() const {
    const Settings& settings = impl_->settings;
    const net::Pack pack = settings.chosen();
    const NamedTexts written = settings.texts_for(pack, static_cast<uint32_t>(settings.value(kPrompt)));
    std::vector<WrittenText> texts;
    for (const net::PackText& text : pack.texts) {
        const auto found = written.find(text.name);
        texts.push_back({text.name, text.description, text.suggestions,
                         found == written.end() ? text.default_value : found->second,
                         settings.texts.in_force(text.name)});
    }
    return texts;
}

bool Plugin::write_text(const std::string& name, const std::string& text) {
    const net::Pack pack = impl_->settings.chosen();
    const net::PackText* const prompted = prompted_text(pack);
    if (prompted == nullptr || prompted->name != name) return impl_->settings.texts.write(name, text);
    double slot = 0.0;
    if (!parameter_value(kPrompt, text, slot)) return false;
    set_parameter(kPrompt, slot);
    return true;
}

uint32_t Plugin::packs_counted() const noexcept {
    return impl_->settings.packs.counted();
}

bool Plugin::more_packs() const noexcept {
    return impl_->settings.packs.more() && !(impl_->is_active && (impl_->rolling || impl_->offline || impl_->bouncing));
}

bool Plugin::show_packs() {
    return impl_->settings.packs.show();
}

std::string Plugin::parameter_text(uint32_t index, double value) const {
    if (index == kPack) return impl_->settings.packs.text(static_cast<uint32_t>(clamp_parameter(kPack, value)));
    if (index == kPrompt) return impl_->settings.prompts.words(static_cast<uint32_t>(clamp_parameter(index, value)));
    net::PackParameter parameter;
    if (is_slot(index) && impl_->settings.slots.describe(index - kFirstSlot, parameter))
        return slot_to_text(parameter, clamp_parameter(index, value));
    const std::string text = parameter_to_text(index, value);
    const bool drawn = index == kSeed && value < 1.0 && drawn_seed() != 0;
    return drawn ? text + " (" + std::to_string(drawn_seed()) + ")" : text;
}

bool Plugin::parameter_value(uint32_t index, const std::string& text, double& value) {
    if (index == kPack && impl_->settings.packs.find(text, value)) return true;
    if (index == kPrompt) {
        uint32_t slot = 0;
        return impl_->settings.prompts.take(text, slot) && (value = slot, true);
    }
    net::PackParameter parameter;
    if (is_slot(index) && impl_->settings.slots.describe(index - kFirstSlot, parameter))
        return slot_from_text(parameter, text, value);
    double found;
    if (!parameter_from_text(index, text, found) || found > maximum(index)) return false;
    return value = found, true;
}

std::vector<uint8_t> Plugin::save_state() const {
    return encode_state(impl_->settings.state());
}

bool Plugin::load_state(const uint8_t* data, size_t size) {
    State state;
    if (!decode_state(data, size, state)) return false;
    impl_->settings.set_state(state);
    follow_pack();
    impl_->look_at_wanted(0.0);
    impl_->settling.stand();
    return true;
}

void Plugin::set_endpoint(const std::string& endpoint) {
    impl_->settings.set_endpoint(endpoint);
}

// ---- what the user sees ----------------------------------------------------------------------------------------

Status Plugin::status() const noexcept {
    if (impl_->failed) return Status::failed;
    return impl_->is_active ? impl_->shown.status.load() : Status::idle;
}

std::string Plugin::message() const {
    return impl_->words().whole;
}

std::string Plugin::brief_message() const {
    return impl_->words().brief;
}

uint64_t Plugin::changes() const noexcept {
    return impl_->shown.changes;
}

uint32_t Plugin::drawn_seed() const noexcept {
    return impl_->shown.seed;
}

Meters Plugin::meters() noexcept {
    return impl_->ask_active(Meters(), [](Active& active) {
        Meters meters;
        meters.input_peak = active.exchange.input_peak.exchange(0.0f);
        meters.output_peak = active.exchange.output_peak.exchange(0.0f);
        meters.underrun_samples = active.exchange.underrun_samples;
        meters.late_samples = active.worker.late_samples();
        meters.sessions = active.worker.sessions();
        meters.lost_midi = active.exchange.lost_midi;
        meters.needed_latency_seconds = active.worker.needed_seconds();
        meters.server_compute_seconds = active.worker.compute_seconds();
        return meters;
    });
}

}  // namespace backline
