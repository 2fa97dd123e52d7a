"""What a voice says about the chord: a small recurrent network that hears the voice, knows the beat and counts bars.

The semantic stage could learn this by itself, but it meets a few dozen chords in a training step of 2,000 frames and
sees eight seconds back; and it believes the chords that it has played, right or wrong. This network needs only songs
that are sung, hears fifty at a time, and never forgets how the song went so far. It tells the chord of the moment that
is about to be played, however late it hears the voice: one set of outputs for each of HINT_LAGS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from backline.models.hafm.score import TRIADS, VOICE_PROTOTYPES, VOICE_TURNS, Tokens, pitch_and_colour, transposed
from backline.models.hafm.transport import BAND_BAR, bars_before, bars_since
from backline.models.stream import Transport
from backline.nn.weights import misfits

HINT_RATE, VOICE_FRAMES = 25, 2  # steps per second, and of how many frames of the voice each is
# Seconds by which the voice is heard later than the chord is due (LOOKAHEAD to LONGEST_LAG of aligned/config.py).
HINT_LAGS = (Fraction(-8, 5), Fraction(-4, 5), Fraction(0), Fraction(4, 5), Fraction(12, 5), Fraction(26, 5))
CHORDS = 12 * len(TRIADS)
CERTAIN = 40  # parts into which a probability is rounded

PITCHES = 13  # pitch classes and silence
HARMONICS = (1, 2, 4)  # of the bar phase
PHRASE_BARS = 4
VOICE_INPUTS = PITCHES + VOICE_PROTOTYPES
BEAT_INPUTS = 2 * len(HARMONICS) + PHRASE_BARS + 2
INPUTS = VOICE_INPUTS + BEAT_INPUTS
HIDDEN = 128
REMEMBERED = 8 * HINT_RATE  # steps before the newest tokens that can still be asked for: the widest gap of lags

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class BarCount:
    """Where in the song a step of HINT_RATE ends: what a host's transport tells, or a beat that was heard."""

    bars: NDArray[np.float64]  # [step] from a bar's start
    bars_per_second: float
    counted: bool  # from the song's start; else nobody knows how many bars have gone by

    @classmethod
    def told(cls, transport: Transport | None, first: int, steps: int, counted: bool) -> BarCount | None:
        """Of steps `first`.. of a session, as the transport has them; None where there is none or it stands."""
        if transport is None or not transport.playing:
            return None
        bars = bars_since(transport, (first + 1 + np.arange(steps)) / HINT_RATE)
        return cls(bars_before(transport) + bars, transport.tempo / 60 / BAND_BAR, counted)


@dataclass(frozen=True)
class ChordHints:
    """One dense layer, gated recurrent units, and a softmax over the chords for each of HINT_LAGS."""

    entry: Floats  # [hidden, INPUTS]
    entry_bias: Floats  # [hidden]
    gates_input: Floats  # [3 * hidden, hidden]: reset, update, new
    gates_input_bias: Floats  # [3 * hidden]
    gates_hidden: Floats  # [3 * hidden, hidden]
    gates_hidden_bias: Floats  # [3 * hidden]
    outer: Floats  # [lag * CHORDS, hidden]
    outer_bias: Floats  # [lag * CHORDS]

    @property
    def hidden(self) -> int:
        return len(self.entry)

    @classmethod
    def shapes(cls, hidden: int = HIDDEN) -> dict[str, tuple[int, ...]]:
        """Of every tensor."""
        outputs = len(HINT_LAGS) * CHORDS
        return {
            "entry": (hidden, INPUTS),
            "entry_bias": (hidden,),
            "gates_input": (3 * hidden, hidden),
            "gates_input_bias": (3 * hidden,),
            "gates_hidden": (3 * hidden, hidden),
            "gates_hidden_bias": (3 * hidden,),
            "outer": (outputs, hidden),
            "outer_bias": (outputs,),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "semantics.hints.") -> ChordHints:
        """As a pack holds it.

        Raises:
            ValueError: tensors are missing or have wrong shapes; the message lists all of them.
        """
        known = prefix + "entry_bias"
        shapes = cls.shapes(tensors[known].numel() if known in tensors else HIDDEN)
        wrong = []
        for name, shape in shapes.items():
            if prefix + name not in tensors:
                wrong.append(f"{prefix}{name} is missing, must be {list(shape)}")
            else:
                wrong += misfits(prefix + name, tensors[prefix + name], shape)
        if wrong:
            raise ValueError("; ".join(wrong))
        return cls(**{name: tensors[prefix + name].float().cpu().numpy() for name in shapes})

    def tensors(self, prefix: str = "semantics.hints.") -> dict[str, Tensor]:
        """What `from_tensors` reads."""
        return {prefix + field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)}

    def listen(self, hidden: Floats, inputs: Floats) -> Floats:
        """States [step, row, hidden] after inputs [step, row, INPUTS], from the state [row, hidden] before them.

        Step by step, as a session does it: a chunk's end does not change the order of any sum.
        """
        states = np.empty((len(inputs), *hidden.shape), np.float32)
        for step, heard in enumerate(inputs):
            entered = np.maximum(heard @ self.entry.T + self.entry_bias, 0)
            reset_in, update_in, new_in = np.split(entered @ self.gates_input.T + self.gates_input_bias, 3, axis=1)
            reset, update, new = np.split(hidden @ self.gates_hidden.T + self.gates_hidden_bias, 3, axis=1)
            share = _sigmoid(update_in + update)
            hidden = share * hidden + (1 - share) * np.tanh(new_in + _sigmoid(reset_in + reset) * new)
            states[step] = hidden
        return states

    def states(self, vocal: Tokens, count: BarCount | None) -> Floats:
        """[step, hidden] of a whole voice [1, frame] in C."""
        return self.listen(np.zeros((1, self.hidden), np.float32), hint_inputs(vocal, count)[:, None])[:, 0]

    def told(self, states: Floats, lag: int) -> Tokens:
        """[chord, step] in 0 to CERTAIN, for the lag of that number, of states [step, hidden]."""
        heads = slice(lag * CHORDS, (lag + 1) * CHORDS)
        scores = states @ self.outer[heads].T + self.outer_bias[heads]
        shares = np.exp(scores - scores.max(axis=1, keepdims=True, initial=-np.inf))
        return np.rint(CERTAIN * shares / shares.sum(axis=1, keepdims=True)).astype(np.int64).T


class HintListener:
    """The network listening to one voice, in several keys at once: which is right may turn out later."""

    def __init__(self, hints: ChordHints, keys: Sequence[int] = tuple(range(12))) -> None:
        """
        Args:
            keys: semitones by which the voice's key may lie above C.
        """
        self.hints, self.keys = hints, tuple(keys)
        self.steps = 0  # heard so far
        self._state = np.zeros((len(self.keys), hints.hidden), np.float32)
        self._states = np.zeros((0, len(self.keys), hints.hidden), np.float32)  # of the newest steps
        self._begun = np.zeros((1, 0), np.int64)  # frames of a step that is not whole

    def hear(self, vocal: Tokens, transport: Transport | None, counted: bool = True) -> None:
        """The voice's next tokens [1, frame], and the transport, if anybody knows it.

        Args:
            counted: whether the transport's bars are counted from the song's start.
        """
        heard = np.concatenate([self._begun, vocal], axis=1)
        steps = heard.shape[1] // VOICE_FRAMES
        self._begun = heard[:, steps * VOICE_FRAMES :]
        if not steps:
            return
        whole, count = heard[:, : steps * VOICE_FRAMES], BarCount.told(transport, self.steps, steps, counted)
        inputs = np.stack([hint_inputs(transposed(whole, VOICE_TURNS, -key), count) for key in self.keys], axis=1)
        states = self.hints.listen(self._state, inputs)
        self._state = states[-1]
        self._states = np.concatenate([self._states[-REMEMBERED:], states])
        self.steps += steps

    def told(self, first: int, steps: int, key: int, lag: Fraction) -> Tokens:
        """[chord, step] in 0 to CERTAIN of the chords at steps `first`.. of HINT_RATE; CERTAIN + 1 where unheard.

        Args:
            lag: seconds by which the voice comes later than the steps.
        """
        number = lag_number(lag)
        newest = self.steps - len(self._states)
        wanted = first + np.arange(steps) - int(HINT_LAGS[number] * HINT_RATE)
        heard = (wanted >= newest) & (wanted < self.steps)
        found = np.full((CHORDS, steps), CERTAIN + 1)
        states = self._states[wanted[heard] - newest, self.keys.index(key)]
        found[:, heard] = self.hints.told(states, number)
        return found


def lag_number(lag: Fraction) -> int:
    """Whose outputs serve a lag: the first of HINT_LAGS that is no shorter."""
    return next((number for number, served in enumerate(HINT_LAGS) if served >= lag), len(HINT_LAGS) - 1)


def hint_inputs(vocal: Tokens, count: BarCount | None) -> Floats:
    """[step, INPUTS] what the network gets of a voice [1, frame] in C, VOICE_FRAMES of it each step.

    The shares of the frames that have each pitch class and each colour, then `beat_inputs`.
    """
    steps = vocal.shape[1] // VOICE_FRAMES
    pitch, colour = pitch_and_colour(vocal[:, : steps * VOICE_FRAMES])
    step = np.arange(steps * VOICE_FRAMES) // VOICE_FRAMES
    sung = np.zeros((steps, PITCHES), np.float32)
    colours = np.zeros((steps, VOICE_PROTOTYPES + 1), np.float32)  # the last is silence's
    np.add.at(sung, (step, pitch), 1 / VOICE_FRAMES)
    np.add.at(colours, (step, colour), 1 / VOICE_FRAMES)
    return np.concatenate([sung, colours[:, :VOICE_PROTOTYPES], beat_inputs(count, steps)], axis=1)


def beat_inputs(count: BarCount | None, steps: int) -> Floats:
    """[step, BEAT_INPUTS]: the bar phase as sines, which of PHRASE_BARS it is, that there is a beat, and the tempo.

    Zeros stand for what is not known.
    """
    found = np.zeros((steps, BEAT_INPUTS), np.float32)
    if count is None:
        return found
    turns = 2 * np.pi * np.outer(count.bars, HARMONICS)
    found[:, 0 : 2 * len(HARMONICS) : 2], found[:, 1 : 2 * len(HARMONICS) : 2] = np.sin(turns), np.cos(turns)
    if count.counted:
        found[np.arange(steps), 2 * len(HARMONICS) + np.floor(count.bars).astype(np.int64) % PHRASE_BARS] = 1
    found[:, -2] = 1
    found[:, -1] = (count.bars_per_second * 240 - 100) / 20  # 100 beats a minute, in four-four, is the middle
    return found


def _sigmoid(x: Floats) -> Floats:
    return np.float32(0.5) * (np.tanh(np.float32(0.5) * x) + np.float32(1))
