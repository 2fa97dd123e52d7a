// IAudioProcessor: arrangements, latency, and the way of one block; and what it needs of the host's transport.
#include "instance.h"
#include "transport.h"
#include "values.h"

namespace backline::vst3 {

namespace {

constexpr uint32_t kInfiniteTail = 0xFFFFFFFF;

v3_result set_bus_arrangements(void* self, v3_speaker_arrangement* inputs, int32_t input_count,
                               v3_speaker_arrangement* outputs, int32_t output_count) {
    Instance& instance = instance_of(self);
    if (instance.active) return V3_FALSE;
    return instance.buses.arrange(inputs, input_count, outputs, output_count) ? V3_OK : V3_FALSE;
}

v3_result get_bus_arrangement(void* self, int32_t direction, int32_t index, v3_speaker_arrangement* arrangement) {
    if (arrangement == nullptr || !instance_of(self).buses.arrangement(direction, index, *arrangement))
        return V3_INVALID_ARG;
    return V3_OK;
}

v3_result can_process_sample_size(void*, int32_t size) {
    return size == V3_SAMPLE_32 ? V3_OK : V3_FALSE;
}

// Before the host has set us up it is that of a common rate; setup_processing() says when that was not the host's.
uint32_t get_latency_samples(void* self) {
    Instance& instance = instance_of(self);
    const uint32_t latency = instance.plugin.latency_samples(instance.setup.sample_rate);
    instance.latency_told = latency;
    return latency;
}

v3_result setup_processing(void* self, v3_process_setup* setup) {
    Instance& instance = instance_of(self);
    if (setup == nullptr || setup->symbolic_sample_size != V3_SAMPLE_32 || setup->max_block_size < 1) return V3_FALSE;
    const bool same =
        setup->sample_rate == instance.setup.sample_rate && setup->max_block_size == instance.setup.max_block_size;
    if (instance.active && !same) return V3_FALSE;
    if (!instance.active) instance.setup = *setup;  // active, it is the audio thread's to read
    // Prefetching hosts run ahead of the clock, but in real time on average: to the server they are live.
    instance.plugin.set_offline(setup->process_mode == V3_OFFLINE);
    note_news(instance);
    tell_host(instance, 0);
    return V3_OK;
}

// A host that stops and starts processing has jumped: what is under way belongs to before.
v3_result set_processing(void* self, v3_bool processing) {
    Instance& instance = instance_of(self);
    if (processing != 0 && instance.active && instance.processed) {
        instance.plugin.reset();
        instance.processed = false;
    }
    return V3_OK;
}

// A point of the status, as of a knob that moves; false where the host takes none.
bool tell_status(v3_param_changes** changes, double normalised) {
    if (changes == nullptr) return false;
    v3_param_id id = kStatus;
    int32_t index = 0;
    v3_param_value_queue** queue = v3_cpp_obj(changes)->add_param_data(changes, &id, &index);
    return queue != nullptr && v3_cpp_obj(queue)->add_point(queue, 0, normalised, &index) == V3_OK;
}

// The status is the one value that changes by itself. With it the main thread learns that there is more to tell.
void tell_news(Instance& instance, v3_param_changes** changes) {
    note_news(instance);
    const double status = instance.plugin.parameter(kStatus);
    const uint64_t count = instance.plugin.changes();
    const int32_t untold = instance.untold;
    const bool changed = status != instance.told_status || count != instance.told_changes;
    if (instance.ardour)
        tell_host(instance, changed ? V3_RESTART_PARAM_VALUES_CHANGED : 0);
    else if ((changed || (untold & ~instance.nudged) != 0) &&
             !tell_status(changes, to_normalised(kStatus, status, instance.packs())))
        return;
    instance.told_status = status;
    instance.told_changes = count;
    instance.nudged = untold;
}

v3_result process(void* self, v3_process_data* data) {
    Instance& instance = instance_of(self);
    if (data == nullptr || data->nframes < 0) return V3_INVALID_ARG;
    if (data->symbolic_sample_size != V3_SAMPLE_32) return V3_FALSE;
    if (!instance.active && data->nframes > 0) return V3_NOT_INITIALIZED;

    Block block;
    block.frames = static_cast<uint32_t>(data->nframes);
    instance.buses.connect(*data, block);

    block.offline = data->process_mode == V3_OFFLINE;  // some hosts say so here only

    instance.events.clear();
    instance.events.add_parameters(data->input_params, block.frames, instance.plugin, instance.packs());
    instance.events.add_notes(data->input_events, block.frames);
    block.events = instance.events.data();
    block.event_count = instance.events.size();
    block.lost_midi = instance.events.lost();

    const double rate = instance.setup.sample_rate;
    const auto transport =
        transport_of(data->ctx, rate, instance.ardour, instance.plugin.latency_samples(rate) / rate);
    block.transport = transport ? &*transport : nullptr;

    if (!instance.active) {
        for (size_t index = 0; index < block.event_count; ++index)
            if (block.events[index].kind == Event::Kind::parameter)
                instance.plugin.set_parameter(block.events[index].parameter, block.events[index].value);
        return V3_OK;
    }
    instance.plugin.retime();
    instance.plugin.process(block);
    instance.buses.fold(block);
    instance.processed = instance.processed || block.frames > 0;
    tell_news(instance, data->output_params);
    return V3_OK;
}

// The accompaniment plays on when the singer stops.
uint32_t get_tail_samples(void*) {
    return kInfiniteTail;
}

uint32_t get_process_context_requirements(void*) {
    return V3_PROCESS_CTX_NEED_PROJECT_TIME | V3_PROCESS_CTX_NEED_BAR_POSITION | V3_PROCESS_CTX_NEED_CYCLE |
           V3_PROCESS_CTX_NEED_TEMPO | V3_PROCESS_CTX_NEED_TIME_SIG | V3_PROCESS_CTX_NEED_TRANSPORT_STATE;
}

}  // namespace

const v3_audio_processor_cpp kProcessorTable = {
    {query_interface, reference, release},
    {set_bus_arrangements, get_bus_arrangement, can_process_sample_size, get_latency_samples, setup_processing,
     set_processing, process, get_tail_samples},
};

const v3_process_context_requirements_cpp kRequirementsTable = {
    {query_interface, reference, release},
    {get_process_context_requirements},
};

}  // namespace backline::vst3
