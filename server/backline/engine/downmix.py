"""The down-mix: a session's channels as fewer ones that a model takes, by the layout that they have.

To stereo, 5.1 and 7.1 are mixed as ITU-R BS.775 has it: the centre and each surround at -3 dB, no LFE. To mono,
BS.775 adds each pair of channels at -3 dB, which halves or doubles a voice with the place it lies at; here a pair is
added so that a voice is heard at its level, be it in the middle, on one side or out of phase (`kernels/downmix.py`):

    mono of 5.1 = pair(L, R) + C + 0.707 pair(Ls, Rs),  7.1 also + 0.707 pair(Lrs, Rrs)

Discrete channels are voices of their own: their mono is the same sum over all of them (of more than two none is turned
round: who places several microphones has decided on their phases), and their stereo is that sum on both sides.
"""

from __future__ import annotations

import math

import numpy as np

from backline.engine.errors import BadInput
from backline.kernels.downmix import Together
from backline.models.stream import Audio, ChannelLayout

HALF_POWER = np.float32(math.sqrt(0.5))
CHANNELS = {  # of the layouts that have a number of their own
    ChannelLayout.MONO: 1,
    ChannelLayout.STEREO: 2,
    ChannelLayout.SURROUND_5_1: 6,
    ChannelLayout.SURROUND_7_1: 8,
}
UNSAID = {channels: layout for layout, channels in CHANNELS.items()}  # what a session means that names no layout
LEFT, RIGHT, CENTRE, SURROUNDS = 0, 1, 2, 4  # SMPTE: L R C LFE Ls Rs Lrs Rrs


class Downmix:
    """`channels` in the order of `layout` as `channels_out` channels, from a session's first sample on. One thread.

    Raises:
        BadInput: the layout has another number of channels, or there is no way from it to `wanted` channels.
    """

    def __init__(self, layout: ChannelLayout | None, channels: int, wanted: int, rate: int) -> None:
        """`wanted`: what the model takes; where `channels_out` is 1, it is for the caller to repeat it as often."""
        self._layout = checked_layout(layout, channels)
        self.channels_out = channels if channels == wanted else 1
        self._pairs: list[Together] = []
        if channels in (wanted, 1):
            return
        if wanted > 2:
            raise BadInput(
                f"the model takes {wanted} channels and the session has {channels}: "
                f"open it with {wanted} channels, or with 1"
            )
        if self._layout in (ChannelLayout.SURROUND_5_1, ChannelLayout.SURROUND_7_1):
            self.channels_out = wanted
            if wanted == 1:
                self._pairs = [Together(2, rate) for _ in range(0, channels - 2, 2)]  # one is not C and LFE
        else:
            self._pairs = [Together(channels, rate)]

    def process(self, audio: Audio) -> Audio:
        """The next block [channel, sample]."""
        if self.channels_out == audio.shape[0]:
            return audio
        if self.channels_out == 2:
            return self._stereo(audio)
        if len(self._pairs) == 1:
            return self._pairs[0].process(audio)[np.newaxis]
        front, *surrounds = self._pairs
        mono = front.process(audio[: RIGHT + 1]) + audio[CENTRE]
        for at, pair in zip(range(SURROUNDS, audio.shape[0], 2), surrounds, strict=True):
            mono += HALF_POWER * pair.process(audio[at : at + 2])
        return mono[np.newaxis]

    @staticmethod
    def _stereo(audio: Audio) -> Audio:
        stereo = audio[[LEFT, RIGHT]] + HALF_POWER * audio[CENTRE]
        for at in range(SURROUNDS, audio.shape[0], 2):
            stereo += HALF_POWER * audio[at : at + 2]
        return stereo


def checked_layout(layout: ChannelLayout | None, channels: int) -> ChannelLayout:
    """The layout that a session has: the one it names, else SMPTE 5.1 and 7.1 for 6 and 8 channels.

    Raises:
        BadInput: the layout has another number of channels.
    """
    if layout is None:
        return UNSAID.get(channels, ChannelLayout.DISCRETE)
    wanted = CHANNELS.get(layout, channels)
    if wanted != channels:
        raise BadInput(
            f"channel layout {layout.value} has {wanted} channels and the session has {channels}: name the layout that "
            "the audio has, or discrete"
        )
    return layout
