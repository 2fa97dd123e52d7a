"""The way of the audio between a session's rate and channels and those of its model, exact to the sample."""

from __future__ import annotations

import numpy as np

from backline.engine.downmix import Downmix
from backline.engine.rings import Ring
from backline.engine.timeline import OutputTimeline
from backline.kernels.resample import Resampler
from backline.models.stream import Audio, ChunkOutput, SessionConfig, StreamSpec


class InputPath:
    """The client's audio -> no more channels than the model takes -> ring -> rate of the model.

    Up to the ring: the client's thread; from there on: the engine thread. So the ring of a session with 64 channels on
    a mono model holds one.
    """

    def __init__(self, spec: StreamSpec, config: SessionConfig, capacity: int) -> None:
        self._channels = spec.input_channels or config.channels
        self._downmix = Downmix(config.channel_layout, config.channels, self._channels, config.sample_rate)
        self.ring = Ring(capacity, self._downmix.channels_out)
        self._silence = np.broadcast_to(np.float32(0.0), (config.channels, capacity))
        self._resampler = Resampler(config.sample_rate, spec.input_rate or config.sample_rate, self._channels)
        self._fed = 0  # model samples given out
        self._lead = self._resampler.delay_out  # outputs of the resampler still to come that lie before time 0
        self._carry = np.zeros((self._channels, 0), np.float32)  # model samples beyond what the last chunk wanted
        self.delay_seconds = float(self._resampler.latency_seconds)

    def write(self, audio: Audio) -> None:
        """Appends the client's audio [channel, sample], which must fit into the ring. The client's thread."""
        self.ring.write(self._downmix.process(audio))

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
        if audio.shape[0] < self._channels:
            audio = np.repeat(audio, self._channels, axis=0)
        converted = self._resampler.process(audio)
        lead = min(self._lead, converted.shape[1])
        self._lead -= lead
        stock = np.concatenate([self._carry, converted[:, lead:]], axis=1)
        wanted = max(0, required - self._fed)
        self._fed += wanted
        self._carry = stock[:, wanted:].copy()
        return stock[:, :wanted]

    def _missing(self, required: int) -> int:
        """Outputs of the resampler that are wanted beyond those it has given."""
        wanted = required - self._fed - self._carry.shape[1]
        return wanted + self._lead if wanted > 0 else 0


class OutputPath:
    """Chunks at the model's rate -> revisions and commits -> the client's rate. Engine thread.

    The channels of all ports go through as one array, so that ports cannot come apart either.
    """

    def __init__(self, spec: StreamSpec, config: SessionConfig, port_channels: list[int]) -> None:
        self._rate, self._model_rate = config.sample_rate, spec.output_rate or config.sample_rate
        channels = sum(port_channels)
        self.timeline = OutputTimeline(channels, int(spec.revision_seconds * self._model_rate))
        self._resampler = Resampler(self._model_rate, self._rate, channels)
        self._lead = self._resampler.delay_out
        self._splits = np.cumsum(port_channels)[:-1]
        self.end = 0  # samples of the client since the session's start that have come out
        self.delay_seconds = float(self._resampler.latency_seconds + spec.revision_seconds)

    def add(self, output: ChunkOutput) -> Audio:
        """The client's audio [channel of all ports, sample] from `end` on that this chunk makes final."""
        if output.audio:
            self.timeline.lay(output.position, np.concatenate(output.audio, axis=0))
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
        return np.split(audio, self._splits, axis=0)

    def _convert(self, audio: Audio) -> Audio:
        converted = self._resampler.process(audio)
        lead = min(self._lead, converted.shape[1])
        self._lead -= lead
        self.end += converted.shape[1] - lead
        return converted[:, lead:]
