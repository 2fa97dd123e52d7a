// Parameter values between their own units and VST3's 0 to 1.
#pragma once

#include <cstdint>

namespace backline::vst3 {

// `packs` is how many the list of packs has.
int32_t step_count(uint32_t parameter, uint32_t packs);  // 0: continuous
double to_plain(uint32_t parameter, double normalised, uint32_t packs);
double to_normalised(uint32_t parameter, double plain, uint32_t packs);

}  // namespace backline::vst3
