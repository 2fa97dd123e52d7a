"""The way of the audio between a session's rate and channels and those of its model, exact to the sample."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from backline.engine.downmix import Downmix
from backline.engine.errors import BadInput, NotFound
from backline.engine.limits import quoted
from backline.engine.rings import Ring
from backline.engine.timeline import OutputTimeline
from backline.kernels.resample import Resampler
from backline.models.stream import Audio, ChunkOutput, SessionConfig, StreamSpec


@dataclass(frozen=True)
class Group:
    """Channels of the client that go into one input of the model."""

    given: slice  # of the client's channels
    downmix: Downmix
    taken: slice  # of the model's

    def process(self, audio: Audio) -> Audio:
        """The next block [channel of the client, sample] as no more channels than the input has."""
        return self.downmix.process(audio[self.given])


def grouped(spec: StreamSpec, config: SessionConfig) -> list[Group]:
    """Which channels of a session go where. A model of one input gets all of them; one of several gets those of a
    session that names none in its first.

    Raises:
        NotFound: a group is none of the model's inputs.
        BadInput: the groups are not the session's channels, or do not fit into their inputs.
    """
    channels = [group.channels for group in config.inputs]
    if config.inputs and (sum(channels) != config.channels or min(channels) < 1):
        raise BadInput(
            f"the inputs have {' + '.join(map(str, channels))} channels and the session has {config.channels}: "
            "give every input at least one, and the session their sum"
        )
    if not spec.inputs:
        wanted = spec.input_channels or config.channels
        return [_group(config, slice(0, config.channels), slice(0, wanted))]
    places, at = {}, 0
    for group in spec.inputs:
        places[group.name] = slice(at, at := at + group.channels)
    if not config.inputs:
        return [_group(config, slice(0, config.channels), places[spec.inputs[0].name])]
    found: dict[str, Group] = {}
    at = 0
    for group in config.inputs:
        if group.name not in places:
            raise NotFound(f"no input {quoted(group.name)} in this model: use {', '.join(places)}")
        if group.name in found:
            raise BadInput(f"input {group.name!r} is given twice: give each once")
        found[group.name] = _group(config, slice(at, at := at + group.channels), places[group.name])
    return list(found.values())


def _group(config: SessionConfig, given: slice, taken: slice) -> Group:
    channels, wanted = given.stop - given.start, taken.stop - taken.start
    layout = config.channel_layout if channels == config.channels else None
    return Group(given, Downmix(layout, channels, wanted, config.sample_rate), taken)


class InputPath:
    """The client's audio -> no more channels than the model takes -> ring -> rate of the model.

    Up to the ring: the client's thread; from there on: the engine thread. So the ring of a session with 64 channels on
    a mono model holds one.
    """

    def __init__(self, spec: StreamSpec, config: SessionConfig, capacity: int) -> None:
        self._channels = spec.input_channels or config.channels
        self._groups = grouped(spec, config)
        self._sources = np.full(self._channels, -1)  # of each channel of the model, the one of the ring, if any
        held = 0
        for group in self._groups:
            channels = group.downmix.channels_out
            self._sources[group.taken] = held + np.arange(channels)  # one channel on all of them
            held += channels
        self.ring = Ring(capacity, held)
        self._silence = np.broadcast_to(np.float32(0.0), (config.channels, capacity))
        self._resampler = Resampler(config.sample_rate, spec.input_rate or config.sample_rate, self._channels)
        self._fed = 0  # model samples given out
        self._lead = self._resampler.delay_out  # outputs of the resampler still to come that lie before time 0
        self._carry = np.zeros((self._channels, 0), np.float32)  # model samples beyond what the last chunk wanted
        self.delay_seconds = float(self._resampler.latency_seconds)

    def write(self, audio: Audio) -> None:
        """Appends the client's audio [channel, sample], which must fit into the ring. The client's thread."""
        blocks = [group.process(audio) for group in self._groups]
        self.ring.write(blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=0))

    def write_silence(self, count: int) -> None:
        """Appends `count` samples of silence, which must fit into the ring. The client's thread."""
        self.write(self._silence[:, :count])

    def needed(self, required: int) -> int:
        """Samples of the client since the session's start that `required` model samples need."""
        return self.ring.read_count + self._resampler.input_needed(self._missing(required))

    def take(self, required: int) -> Audio:
        """The model's input [channel, sample] up to `required`, none of it given out before.

        Where the ring ends before that, silence follows: the session's input has been closed.
        """
        count = self._resampler.input_needed(self._missing(required))
        there = min(count, self.ring.available)
        audio = self.ring.read(there)
        if there < count:
            audio = np.pad(audio, ((0, 0), (0, count - there)))
        converted = self._resampler.process(self._placed(audio))
        lead = min(self._lead, converted.shape[1])
        self._lead -= lead
        stock = np.concatenate([self._carry, converted[:, lead:]], axis=1)
        wanted = max(0, required - self._fed)
        self._fed += wanted
        self._carry = stock[:, wanted:].copy()
        return stock[:, :wanted]

    def _placed(self, audio: Audio) -> Audio:
        """What the ring holds as the channels of the model; an input that the session has not got is silent."""
        if np.array_equal(self._sources, np.arange(audio.shape[0])):
            return audio
        placed = audio[self._sources]
        placed[self._sources < 0] = 0.0
        return placed

    def _missing(self, required: int) -> int:
        """Outputs of the resampler that are wanted beyond those it has given."""
        wanted = required - self._fed - self._carry.shape[1]
        return wanted + self._lead if wanted > 0 else 0


class OutputPath:
    """Chunks at the model's rate -> in their places -> the client's rate. Engine thread.

    The channels of all ports go through as one array, so that ports cannot come apart either.
    """

    def __init__(self, spec: StreamSpec, config: SessionConfig, port_channels: list[int]) -> None:
        self._rate, self._model_rate = config.sample_rate, spec.output_rate or config.sample_rate
        channels = sum(port_channels)
        self.timeline = OutputTimeline(channels)
        self._resampler = Resampler(self._model_rate, self._rate, channels)
        self._lead = self._resampler.delay_out
        self._splits = np.cumsum([0, *port_channels])
        self.end = 0  # samples of the client since the session's start that have come out
        self.delay_seconds = float(self._resampler.latency_seconds)

    def add(self, output: ChunkOutput) -> Audio:
        """The client's audio [channel of all ports, sample] from `end` on that this chunk makes final."""
        if output.audio:
            audio = np.concatenate(output.audio, axis=0)
            unheard = not self._resampler.channels  # of a session that wants no audio
            self.timeline.lay(output.position, audio[:0] if unheard else audio)
        return self._convert(self.timeline.commit())

    def covers(self, count: int) -> bool:
        """Whether the model has said all it has to say about the first `count` samples of the client."""
        return self.timeline.committed * self._rate >= count * self._model_rate

    def finish(self, count: int) -> Audio:
        """What the resampler still holds of the first `count` samples."""
        needed = self._resampler.input_needed(count - self.end + self._lead)
        return self._convert(np.zeros((self._resampler.channels, needed), np.float32))

    def split(self, audio: Audio) -> list[Audio]:
        """[channel of all ports, sample] as one [channel, sample] per port."""
        return [audio[start:stop] for start, stop in pairwise(self._splits)]

    def _convert(self, audio: Audio) -> Audio:
        converted = self._resampler.process(audio)
        lead = min(self._lead, converted.shape[1])
        self._lead -= lead
        self.end += converted.shape[1] - lead
        return converted[:, lead:]
