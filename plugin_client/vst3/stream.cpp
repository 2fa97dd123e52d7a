// Whole reads and writes on the host's streams, which may take or give as little as a byte at a time.
#include "stream.h"

#include <algorithm>

namespace backline::vst3 {

namespace {
constexpr size_t kLargestState = 1 << 20;  // bytes; a stream without an end must not fill the memory
}

std::optional<std::vector<uint8_t>> read_all(v3_bstream** stream) {
    std::vector<uint8_t> bytes;
    uint8_t part[4096];
    while (bytes.size() <= kLargestState) {
        int32_t count = 0;
        const v3_result result = v3_cpp_obj(stream)->read(stream, part, sizeof(part), &count);
        count = std::clamp(count, 0, int32_t{sizeof(part)});
        bytes.insert(bytes.end(), part, part + count);
        if (result != V3_OK || count == 0) return bytes;
    }
    return std::nullopt;
}

bool write_all(v3_bstream** stream, const std::vector<uint8_t>& bytes) {
    size_t written = 0;
    while (written < bytes.size()) {
        int32_t count = 0;
        const auto left = static_cast<int32_t>(bytes.size() - written);
        auto* part = const_cast<uint8_t*>(bytes.data() + written);  // the interface lacks a const, the host only reads
        const v3_result result = v3_cpp_obj(stream)->write(stream, part, left, &count);
        if (result != V3_OK || count <= 0 || count > left) return false;
        written += static_cast<size_t>(count);
    }
    return true;
}

}  // namespace backline::vst3
