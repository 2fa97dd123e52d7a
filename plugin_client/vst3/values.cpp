// Parameter values between their own units and VST3's 0 to 1.
#include "values.h"

#include <algorithm>
#include <cmath>

#include "parameters.h"

namespace backline::vst3 {

namespace {

double maximum(uint32_t parameter, uint32_t packs) {
    return parameter == kPack ? packs - 1.0 : parameters()[parameter].maximum;
}

}  // namespace

int32_t step_count(uint32_t parameter, uint32_t packs) {
    const ParameterInfo& info = parameters()[parameter];
    return info.stepped ? static_cast<int32_t>(maximum(parameter, packs) - info.minimum) : 0;
}

// Steps share 0 to 1 evenly, as VST3 defines it. Hosts that keep values as float land a little beside k / steps;
// the share of a step reaches far enough around it.
double to_plain(uint32_t parameter, double normalised, uint32_t packs) {
    const ParameterInfo& info = parameters()[parameter];
    const double value = std::isfinite(normalised) ? std::clamp(normalised, 0.0, 1.0) : 0.0;
    const int32_t steps = step_count(parameter, packs);
    if (steps > 0) return info.minimum + std::min(std::floor(value * (steps + 1.0)), double(steps));
    return info.minimum + value * (info.maximum - info.minimum);
}

double to_normalised(uint32_t parameter, double plain, uint32_t packs) {
    const double minimum = parameters()[parameter].minimum, range = maximum(parameter, packs) - minimum;
    return range > 0.0 ? std::clamp((plain - minimum) / range, 0.0, 1.0) : 0.0;
}

}  // namespace backline::vst3
