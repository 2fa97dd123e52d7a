// Slots of the output ring: position modulo capacity.
#include "output_ring.h"

#include <algorithm>
#include <new>

namespace backline {

OutputRing::OutputRing(uint32_t capacity) : capacity_(capacity) {
    const auto lane = [&](auto& lane, size_t size) {
        lane.reset(static_cast<std::remove_reference_t<decltype(lane[0])>*>(std::calloc(capacity, size)));
        if (!lane) throw std::bad_alloc();
    };
    lane(ports_, sizeof(uint8_t));
    for (auto& output : samples_)
        for (auto& channel : output) lane(channel, sizeof(float));
}

uint32_t OutputRing::write(int64_t position, uint32_t count, const std::vector<PortAudio>& ports) {
    const int64_t released = released_.load(std::memory_order_acquire);
    const int64_t end = end_.load(std::memory_order_relaxed);
    const int64_t first = std::max({position, released, end});
    const int64_t last = std::min(position + count, released + capacity_);
    const auto late = static_cast<uint32_t>(std::clamp<int64_t>(released - position, 0, count));
    if (first >= last || ports.empty()) return late;

    for (int64_t p = std::max(end, released); p < first; ++p) ports_[p % capacity_] = 0;
    const auto skipped = static_cast<size_t>(first - position);
    const auto kept = static_cast<uint32_t>(last - first);
    const size_t stems = std::min<size_t>(ports.size(), kStems);
    for (uint32_t channel = 0; channel < kChannels; ++channel) {
        lay(samples_[0][channel].get(), first, kept, ports[0].channels[channel].data() + skipped);
        for (size_t port = 1; port < ports.size(); ++port) {
            const float* from = ports[port].channels[channel].data() + skipped;
            for (uint32_t i = 0; i < kept; ++i) samples_[0][channel][(first + i) % capacity_] += from[i];
        }
        if (stems == 1) continue;  // its sum is its only stem
        for (size_t stem = 0; stem < stems; ++stem)
            lay(samples_[1 + stem][channel].get(), first, kept, ports[stem].channels[channel].data() + skipped);
    }
    for (int64_t p = first; p < last; ++p) ports_[p % capacity_] = static_cast<uint8_t>(stems);
    end_.store(last, std::memory_order_release);
    return late;
}

void OutputRing::skip(int64_t position) {
    const int64_t released = released_.load(std::memory_order_acquire);
    const int64_t end = end_.load(std::memory_order_relaxed);
    const int64_t last = std::min(position, released + capacity_);
    if (last <= std::max(end, released)) return;
    for (int64_t p = std::max(end, released); p < last; ++p) ports_[p % capacity_] = 0;
    end_.store(last, std::memory_order_release);
}

void OutputRing::rewind(int64_t position, uint32_t capacity) {
    capacity_ = capacity;
    if (end_.load(std::memory_order_relaxed) > position) end_.store(position, std::memory_order_release);
}

void OutputRing::read(int64_t position, uint32_t count, Wet& wet) {
    const int64_t end = end_.load(std::memory_order_acquire), begin = released_.load(std::memory_order_relaxed);
    for (uint32_t i = 0; i < count; ++i) {
        const int64_t p = position + i;
        const uint32_t slot = static_cast<uint32_t>(p % capacity_);
        const uint8_t ports = p >= begin && p < end ? ports_[slot] : 0;
        wet.ports[i] = ports;
        for (uint32_t output = 0; ports && output < kOutputs; ++output) {
            for (uint32_t channel = 0; channel < kChannels; ++channel) {
                const uint32_t lane = ports == 1 ? 0 : output;
                wet.samples[output][channel][i] = output <= ports ? samples_[lane][channel][slot] : 0.0f;
            }
        }
    }
    if (position + count > begin)
        released_.store(position + count, std::memory_order_release);
}

void OutputRing::lay(float* lane, int64_t position, uint32_t count, const float* from) {
    const auto slot = static_cast<uint32_t>(position % capacity_);
    const uint32_t run = std::min(count, capacity_ - slot);
    std::copy_n(from, run, lane + slot);
    std::copy_n(from + run, count - run, lane);
}

}  // namespace backline
