// Whole reads and writes on the host's streams, which may take or give as little as a byte at a time.
#pragma once

#include <bstream.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace backline::vst3 {

std::optional<std::vector<uint8_t>> read_all(v3_bstream** stream);  // nothing where there is more than any state has
bool write_all(v3_bstream** stream, const std::vector<uint8_t>& bytes);

}  // namespace backline::vst3
