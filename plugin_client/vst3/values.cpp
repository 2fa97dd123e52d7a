// Parameter values between their own units and VST3's 0 to 1.
#include "values.h"

#include <algorithm>
#include <cmath>

#include "parameters.h"

namespace backline::vst3 {

int32_t step_count(uint32_t parameter) {
    const ParameterInfo& info = parameters()[parameter];
    return info.stepped ? static_cast<int32_t>(info.maximum - info.minimum) : 0;
}

// Steps share 0 to 1 evenly, as VST3 defines it. Hosts that keep values as float land a little beside k / steps;
// the share of a step reaches far enough around it.
double to_plain(uint32_t parameter, double normalised) {
    const ParameterInfo& info = parameters()[parameter];
    const double value = std::isfinite(normalised) ? std::clamp(normalised, 0.0, 1.0) : 0.0;
    const int32_t steps = step_count(parameter);
    if (steps > 0) return info.minimum + std::min(std::floor(value * (steps + 1.0)), double(steps));
    return info.minimum + value * (info.maximum - info.minimum);
}

double to_normalised(uint32_t parameter, double plain) {
    const ParameterInfo& info = parameters()[parameter];
    if (!(info.maximum > info.minimum)) return 0.0;
    return std::clamp((plain - info.minimum) / (info.maximum - info.minimum), 0.0, 1.0);
}

}  // namespace backline::vst3
