// Parameter values between their own units and VST3's 0 to 1.
#pragma once

#include <cstdint>

namespace backline::vst3 {

int32_t step_count(uint32_t parameter);  // 0: continuous
double to_plain(uint32_t parameter, double normalised);
double to_normalised(uint32_t parameter, double plain);

}  // namespace backline::vst3
