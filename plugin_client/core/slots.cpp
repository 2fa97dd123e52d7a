// The parameters that the chosen pack names.
#include "slots.h"

#include <algorithm>
#include <cmath>

#include "numbers.h"

namespace backline {
namespace {

constexpr size_t kLongestName = 255;
constexpr double kMostSteps = 1 << 24;  // beyond, hosts that keep values as float cannot tell them apart

bool has_own_parameter(const std::string& name) {
    for (uint32_t index = 0; index < kStatus; ++index)
        if (wire_name(index) && name == wire_name(index)) return true;
    return false;
}

// Three digits of the range, as far as that makes sense.
int decimals_of(const net::PackParameter& parameter) {
    if (parameter.integer) return 0;
    return std::clamp(3 - static_cast<int>(std::floor(std::log10(parameter.maximum - parameter.minimum))), 0, 6);
}

NumberFormat format_of(const net::PackParameter& parameter) {
    return {1.0, decimals_of(parameter), parameter.unit.c_str()};
}

// Steps share 0 to 1 evenly, as VST3 defines it.
double step_of(uint32_t steps, double value) {
    return std::min<double>(std::floor(value * (steps + 1.0)), steps);
}

bool same(const net::PackParameter& one, const net::PackParameter& other) {
    return one.name == other.name && one.default_value == other.default_value && one.minimum == other.minimum &&
           one.maximum == other.maximum && one.unit == other.unit && one.integer == other.integer &&
           one.automatable == other.automatable && one.labels == other.labels;
}

}  // namespace

std::vector<net::PackParameter> slots_of(const net::Pack& pack) {
    std::vector<net::PackParameter> found;
    for (const net::PackParameter& parameter : pack.parameters) {
        const double range = parameter.maximum - parameter.minimum;
        const bool sound = range > 0.0 && std::isfinite(range) && std::isfinite(parameter.default_value) &&
                           !parameter.name.empty() && parameter.name.size() <= kLongestName;
        if (sound && !has_own_parameter(parameter.name) && found.size() < kSlots) found.push_back(parameter);
    }
    return found;
}

uint32_t slot_steps(const net::PackParameter& parameter) {
    const double range = parameter.maximum - parameter.minimum;
    return parameter.integer && range <= kMostSteps ? static_cast<uint32_t>(std::lround(range)) : 0;
}

double slot_to_plain(const net::PackParameter& parameter, double value) {
    if (const uint32_t steps = slot_steps(parameter)) return parameter.minimum + step_of(steps, value);
    // Not a rounding beside it: the default is what other clients send.
    if (value == slot_from_plain(parameter, parameter.default_value)) return parameter.default_value;
    const double plain = parameter.minimum + value * (parameter.maximum - parameter.minimum);
    return parameter.integer ? std::round(plain) : plain;
}

double slot_from_plain(const net::PackParameter& parameter, double plain) {
    const double share = (plain - parameter.minimum) / (parameter.maximum - parameter.minimum);
    const double value = std::isnan(share) ? 0.0 : std::clamp(share, 0.0, 1.0);
    const uint32_t steps = slot_steps(parameter);
    return steps ? std::round(value * steps) / steps : value;
}

std::string slot_to_text(const net::PackParameter& parameter, double value) {
    const double plain = slot_to_plain(parameter, value);
    const auto label = static_cast<size_t>(plain - parameter.minimum);
    if (parameter.integer && label < parameter.labels.size()) return parameter.labels[label];
    return number_to_text(format_of(parameter), plain);
}

bool slot_from_text(const net::PackParameter& parameter, const std::string& text, double& value) {
    for (size_t label = 0; parameter.integer && label < parameter.labels.size(); ++label)
        if (lower_case(parameter.labels[label]) == lower_case(text))
            return value = slot_from_plain(parameter, parameter.minimum + static_cast<double>(label)), true;
    double plain = 0.0;
    if (!number_from_text(format_of(parameter), text, plain)) return false;
    if (plain < parameter.minimum || plain > parameter.maximum) return false;
    if (parameter.integer && plain != std::round(plain)) return false;
    return value = slot_from_plain(parameter, plain), true;
}

void Slots::set_value(uint32_t slot, double value) {
    if (slot >= used()) return;
    const uint32_t steps = steps_[slot].load(std::memory_order_relaxed);
    values_[slot].store(steps ? step_of(steps, value) / steps : value, std::memory_order_release);
}

bool Slots::bind(const net::Pack& pack) {
    const std::vector<net::PackParameter> parameters = slots_of(pack);
    const std::lock_guard lock(mutex_);
    if (std::equal(parameters.begin(), parameters.end(), parameters_.begin(), parameters_.end(), same)) return false;
    named_ = present();
    parameters_ = parameters;
    rebind();
    ++renames_;
    return true;
}

NamedValues Slots::named() const {
    const std::lock_guard lock(mutex_);
    return present();
}

void Slots::set_named(const NamedValues& values) {
    const std::lock_guard lock(mutex_);
    named_ = values;
    rebind();
}

bool Slots::describe(uint32_t slot, net::PackParameter& parameter) const {
    const std::lock_guard lock(mutex_);
    if (slot >= parameters_.size()) return false;
    parameter = parameters_[slot];
    return true;
}

// Of all parameters that have ever had another value than their pack's default; what the host has not moved since it
// was given is exactly what it was.
NamedValues Slots::present() const {
    NamedValues named = named_;
    for (uint32_t slot = 0; slot < parameters_.size(); ++slot) {
        const net::PackParameter& parameter = parameters_[slot];
        const double value = values_[slot];
        const auto given = named.find(parameter.name);
        if (given != named.end() && value == slot_from_plain(parameter, given->second)) continue;
        if (value == slot_from_plain(parameter, parameter.default_value))
            named.erase(parameter.name);
        else
            named[parameter.name] = slot_to_plain(parameter, value);
    }
    return named;
}

void Slots::rebind() {
    binding_.fetch_add(1, std::memory_order_acq_rel);
    used_ = static_cast<uint32_t>(parameters_.size());
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
        if (slot >= parameters_.size()) {
            values_[slot] = 0.0;
            continue;
        }
        const net::PackParameter& parameter = parameters_[slot];
        const auto given = named_.find(parameter.name);
        steps_[slot] = slot_steps(parameter);
        values_[slot] = slot_from_plain(parameter, given == named_.end() ? parameter.default_value : given->second);
    }
    binding_.fetch_add(1, std::memory_order_release);
}

}  // namespace backline
