"""EnCodec 24 kHz, causal, as a stream: the official architecture and weights, with state for encoder and decoder.

The architecture is that of the `encodec` package (the tests compare with it), but nothing here imports it: it does not
stream, and its PyPI release is CC BY-NC 4.0. Weights keep the official checkpoint's names.

Official EnCodec pads every convolution at the start by *reflection*, so its first frames look ahead: frame 0 needs
frame 6. A stream is exact all the same, because it starts on START_FRAMES frames at once and holds its output back by
HELD_FRAMES. Who always begins with a block of START_FRAMES or more needs no holding back: `hold_frames=0`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from backline.kernels.lstm import lstm_block
from backline.nn.weights import misfits

SAMPLE_RATE = 24_000
HOP = 320
DIMENSION = 128  # of a frame's embedding
CODEBOOKS_IN_CHECKPOINT = 32
CODEBOOK_SIZE = 1024
START_FRAMES = 7  # as the widest convolution, kernel 7 at 75 Hz, needs 6 frames beyond the first for its reflection
HELD_FRAMES = START_FRAMES - 1
STRIDES = (2, 4, 5, 8)  # of the encoder; the decoder's in reverse
FILTERS = 32
LSTM_LAYERS = 2


def checkpoint_layout(codebooks: int = CODEBOOKS_IN_CHECKPOINT) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the official checkpoint that serving needs: its networks and the first `codebooks` tables."""
    shapes = {name: shape for part in (ENCODER, DECODER) for spec in part for name, shape in spec.shapes()}
    for index in range(codebooks):
        shapes[f"quantizer.vq.layers.{index}._codebook.embed"] = (CODEBOOK_SIZE, DIMENSION)
    return shapes


def layout_mismatches(tensors: Mapping[str, Tensor], codebooks: int) -> list[str]:
    """What of `checkpoint_layout` is missing in `tensors` or is something else, one line each."""
    lines = []
    for name, shape in checkpoint_layout(codebooks).items():
        if name not in tensors:
            lines.append(f"{name} {list(shape)} is missing")
        else:
            lines += misfits(name, tensors[name], shape)
    return lines


@dataclass
class HalfState:
    """One direction of the codec, encoder or decoder, for every row."""

    layers: list[Tensor]  # [row, ..] each: what convolutions, LSTMs and transposed convolutions carry over
    frames: Tensor  # [row] int64, frames taken so far
    early: Tensor  # [row, channel, START_FRAMES * steps per frame], the input until there is enough to start on
    held: Tensor  # [row, channel, held frames * steps per frame], output not given out yet


class EncodecStream:
    """The codec; a `Codec`. Rows that have started share every call; a row that starts is computed on its own."""

    sample_rate = SAMPLE_RATE
    frame_rate = Fraction(SAMPLE_RATE, HOP)
    hop = HOP
    codebook_size = CODEBOOK_SIZE

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        codebooks: int = 8,
        hold_frames: int = HELD_FRAMES,
        device: str = "cpu",
    ) -> None:
        """
        Args:
            tensors: by the official checkpoint's names.
            codebooks: 8 make 6 kbit/s, each 0.75.
            hold_frames: HELD_FRAMES, or 0 where every stream's first block has at least START_FRAMES frames.
            device: where to compute.

        Raises:
            ValueError: tensors are missing or have wrong shapes; the message lists all of them.
        """
        if not 1 <= codebooks <= CODEBOOKS_IN_CHECKPOINT:
            raise ValueError(f"{codebooks} codebooks: EnCodec 24 kHz has 1 to {CODEBOOKS_IN_CHECKPOINT}")
        if hold_frames not in (0, HELD_FRAMES):
            raise ValueError(f"hold_frames is {hold_frames}: use {HELD_FRAMES}, or 0 with longer first blocks")
        wrong = layout_mismatches(tensors, codebooks)
        if wrong:
            raise ValueError("these weights are not EnCodec 24 kHz: " + "; ".join(wrong))
        self.codebooks = codebooks
        self.encode_latency = self.decode_latency = hold_frames * HOP
        weights = {name: tensor.detach().to(device, torch.float32) for name, tensor in tensors.items()}
        self.encoder = _Half([spec.build(weights) for spec in ENCODER], HOP, 1, 1, DIMENSION, hold_frames)
        self.decoder = _Half([spec.build(weights) for spec in DECODER], 1, HOP, DIMENSION, 1, hold_frames)
        names = [f"quantizer.vq.layers.{index}._codebook.embed" for index in range(codebooks)]
        self.tables = torch.stack([weights[name] for name in names])  # [codebook, code, DIMENSION]
        self.table_norms = self.tables.square().sum(-1)  # [codebook, code]

    @classmethod
    def from_checkpoint(
        cls, path: Path, codebooks: int = 8, hold_frames: int = HELD_FRAMES, device: str = "cpu"
    ) -> EncodecStream:
        """From the official checkpoint's file, or any that holds its tensors by name (no other pickled object)."""
        return cls(torch.load(path, map_location="cpu", weights_only=True), codebooks, hold_frames, device)

    @torch.no_grad()
    def encode(self, audio: Tensor) -> Tensor:
        """Codes [row, codebook, ceil(sample / HOP)] of whole signals [row, 1, sample], as the package gives them."""
        return self.quantize(self.encoder.whole(audio))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Audio [row, 1, frame * HOP] of codes [row, codebook, frame], as the package gives it."""
        return self.decoder.whole(self.dequantize(codes))

    def init_encode_state(self, rows: int) -> HalfState:
        """Nothing heard yet."""
        return self.encoder.init_state(rows, self.tables.device)

    def init_decode_state(self, rows: int) -> HalfState:
        """Nothing decoded yet."""
        return self.decoder.init_state(rows, self.tables.device)

    @torch.no_grad()
    def encode_step(self, audio: Tensor, state: HalfState, mask: Tensor | None = None) -> tuple[Tensor, HalfState]:
        """Codes [row, codebook, frame] of audio [row, 1, frame * HOP], late by `encode_latency` samples."""
        embedding, state = self.encoder.step(audio, state, mask)
        return self.quantize(embedding), state

    @torch.no_grad()
    def decode_step(self, codes: Tensor, state: HalfState, mask: Tensor | None = None) -> tuple[Tensor, HalfState]:
        """Audio [row, 1, frame * HOP] of codes [row, codebook, frame], late by `decode_latency` samples."""
        return self.decoder.step(self.dequantize(codes), state, mask)

    def quantize(self, embedding: Tensor) -> Tensor:
        """Codes [row, codebook, frame] of [row, DIMENSION, frame]: each table codes what the ones before it left."""
        residual = embedding.transpose(1, 2)  # [row, frame, DIMENSION]
        codes = []
        for table, norms in zip(self.tables, self.table_norms, strict=True):
            nearest = (norms - 2 * residual @ table.T).argmin(-1)
            residual = residual - F.embedding(nearest, table)
            codes.append(nearest)
        return torch.stack(codes, 1)

    def dequantize(self, codes: Tensor) -> Tensor:
        """Embeddings [row, DIMENSION, frame] of codes [row, codebook, frame]; the first codebooks are enough."""
        total = F.embedding(codes[:, 0], self.tables[0])
        for index in range(1, codes.shape[1]):
            total = total + F.embedding(codes[:, index], self.tables[index])
        return total.transpose(1, 2)


class _Half:
    """A chain of layers that takes and gives whole frames."""

    def __init__(
        self,
        layers: Sequence[_Layer],
        steps_in: int,  # per frame
        steps_out: int,
        channels_in: int,
        channels_out: int,
        hold_frames: int,
    ) -> None:
        self.layers = layers
        self.steps_in, self.steps_out = steps_in, steps_out
        self.channels_in, self.channels_out = channels_in, channels_out
        self.hold_frames = hold_frames

    def init_state(self, rows: int, device: torch.device) -> HalfState:
        return HalfState(
            layers=[torch.zeros(rows, *shape, device=device) for layer in self.layers for shape in layer.state_shapes],
            frames=torch.zeros(rows, dtype=torch.int64),
            early=torch.zeros(rows, self.channels_in, START_FRAMES * self.steps_in, device=device),
            held=torch.zeros(rows, self.channels_out, self.hold_frames * self.steps_out, device=device),
        )

    def whole(self, x: Tensor) -> Tensor:
        return self._start(x)[0]

    def step(self, x: Tensor, state: HalfState, mask: Tensor | None) -> tuple[Tensor, HalfState]:
        rows, _, steps = x.shape
        count = steps // self.steps_in
        if steps % self.steps_in:
            raise ValueError(f"a block of {steps} is not a whole number of frames of {self.steps_in}")
        active = [row for row in range(rows) if mask is None or mask[row]]
        running = [row for row in active if state.frames[row] >= START_FRAMES]
        if len(running) == rows:  # the common case, without a copy of any state
            y, layers = self._run(x, state.layers)
            out, held = self._hold(state.held, y, steps=count * self.steps_out)
            return out, HalfState(layers, state.frames + count, state.early, held)

        layers = [tensor.clone() for tensor in state.layers]
        frames, early, held = state.frames.clone(), state.early.clone(), state.held.clone()
        out = x.new_zeros(rows, self.channels_out, count * self.steps_out)
        if running:
            y, moved = self._run(x[running], [tensor[running] for tensor in state.layers])
            for old, new in zip(layers, moved, strict=True):
                old[running] = new
            out[running], held[running] = self._hold(state.held[running], y, steps=out.shape[-1])
        for row in active:
            taken = int(state.frames[row])
            if taken >= START_FRAMES:
                continue
            block = torch.cat([early[row : row + 1, :, : taken * self.steps_in], x[row : row + 1]], -1)
            if taken + count >= START_FRAMES:
                y, moved = self._start(block)
                for old, new in zip(layers, moved, strict=True):
                    old[row] = new[0]
                given = (taken + count - self.hold_frames) * self.steps_out  # of y, the rest stays held
                out[row, :, out.shape[-1] - given :] = y[0, :, :given]
                held[row] = y[0, :, given:]
            elif self.hold_frames:
                early[row, :, : block.shape[-1]] = block[0]
            else:
                raise ValueError(f"a stream began with {count} frames: with hold_frames=0 give at least {START_FRAMES}")
        frames[active] += count
        return out, HalfState(layers, frames, early, held)

    def _hold(self, held: Tensor, y: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        if not self.hold_frames:
            return y, held
        queue = torch.cat([held, y], -1)
        return queue[..., :steps], queue[..., steps:]

    def _start(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The beginning of a signal, or all of it."""
        states = []
        for layer in self.layers:
            x, state = layer.start(x)
            states += state
        return x, states

    def _run(self, x: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What follows."""
        left = iter(states)
        moved = []
        for layer in self.layers:
            x, state = layer.run(x, [next(left) for _ in layer.state_shapes])
            moved += state
        return x, moved


class _Layer(Protocol):
    state_shapes: list[tuple[int, ...]]  # without the row

    def start(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """From the signal's first sample on: [row, channel, time] -> output and state."""
        ...

    def run(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """The next block."""
        ...


class _Conv:
    """Causal convolution that reflects at the start; also, offline, at the end of a partial last stride."""

    SHORT = 64  # output steps up to which one matrix product is faster than torch's convolution

    def __init__(self, weight: Tensor, bias: Tensor, stride: int) -> None:
        self.weight, self.bias, self.stride = weight, bias, stride  # [out, in, kernel]
        self.kernel = weight.shape[-1]
        self.overlap = self.kernel - stride
        self.flat = weight.flatten(1)  # [out, in * kernel]
        self.state_shapes: list[tuple[int, ...]] = [(weight.shape[1], self.overlap)]

    def start(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._convolve(_reflect(x, self.overlap, -x.shape[-1] % self.stride))

    def run(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self._convolve(torch.cat([state[0], x], -1) if self.overlap else x)

    def _convolve(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        steps = (x.shape[-1] - self.kernel) // self.stride + 1
        if steps > self.SHORT:
            y = F.conv1d(x, self.weight, self.bias, self.stride)
        else:
            windows = x.unfold(-1, self.kernel, self.stride)  # [row, in, step, kernel]
            y = self.flat @ windows.transpose(2, 3).flatten(1, 2) + self.bias[:, None]
        return y, [x[..., x.shape[-1] - self.overlap :]]


class _ConvTranspose:
    """Causal transposed convolution of kernel 2 * stride: every frame adds to its own stride and to the next."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        self.stride = weight.shape[-1] // 2
        self.flat = weight.flatten(1).T.contiguous()  # [out * kernel, in]
        self.bias = bias
        self.state_shapes: list[tuple[int, ...]] = [(len(bias), self.stride)]

    def start(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.run(x, [x.new_zeros(len(x), *self.state_shapes[0])])

    def run(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        rows, _, steps = x.shape
        parts = (self.flat @ x).view(rows, len(self.bias), 2, self.stride, steps)
        own, following = parts[:, :, 0].transpose(2, 3), parts[:, :, 1].transpose(2, 3)  # [row, out, step, stride]
        before = torch.cat([state[0][:, :, None], following[:, :, :-1]], 2)
        return (own + before).flatten(2) + self.bias[:, None], [following[:, :, -1]]


class _Residual:
    """ELU, convolution, ELU, convolution, added to a convolution of the input."""

    def __init__(self, first: _Conv, second: _Conv, shortcut: _Conv) -> None:
        self.first, self.second, self.shortcut = first, second, shortcut
        self.state_shapes = first.state_shapes

    def start(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self._add(x, self.first.start(F.elu(x)))

    def run(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self._add(x, self.first.run(F.elu(x), state))

    def _add(self, x: Tensor, first: tuple[Tensor, list[Tensor]]) -> tuple[Tensor, list[Tensor]]:
        return self.shortcut.run(x, [])[0] + self.second.run(F.elu(first[0]), [])[0], first[1]


class _Elu:
    def __init__(self) -> None:
        self.state_shapes: list[tuple[int, ...]] = []

    def start(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return F.elu(x), []

    def run(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return F.elu(x), []


class _Lstm:
    """LSTM layers, and their input added to their output."""

    def __init__(self, layers: list[tuple[Tensor, Tensor, Tensor]]) -> None:
        self.layers = layers  # weight_ih [4 * hidden, in], weight_hh [4 * hidden, hidden], sum of both biases
        hidden = layers[0][1].shape[1]
        self.state_shapes: list[tuple[int, ...]] = [(hidden,)] * (2 * len(layers))

    def start(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.run(x, [x.new_zeros(len(x), *shape) for shape in self.state_shapes])

    def run(self, x: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y = x.transpose(1, 2)  # [row, time, channel]
        moved = []
        for index, (weight_ih, weight_hh, bias) in enumerate(self.layers):
            projected = F.linear(y, weight_ih, bias)
            hidden, cell = (tensor.clone() for tensor in state[2 * index : 2 * index + 2])
            y = _recurrence(projected, weight_hh, hidden, cell)
            moved += [hidden, cell]
        return y.transpose(1, 2) + x, moved


def _recurrence(projected: Tensor, weight: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
    """[row, time, 4 * hidden] -> [row, time, hidden]; moves `hidden` and `cell` in place."""
    rows, times, width = projected.shape
    out = projected.new_empty(rows, times, width // 4)
    if projected.device.type == "cpu":
        gates = projected.new_empty(rows, width)
        lstm_block(*(tensor.numpy() for tensor in (projected.contiguous(), weight, hidden, cell, gates, out)))
        return out
    for time in range(times):
        gate_in, forget, candidate, gate_out = (projected[:, time] + hidden @ weight.T).chunk(4, 1)
        cell.copy_(forget.sigmoid() * cell + gate_in.sigmoid() * candidate.tanh())
        hidden.copy_(gate_out.sigmoid() * cell.tanh())
        out[:, time] = hidden
    return out


def _reflect(x: Tensor, left: int, right: int) -> Tensor:
    """Mirrors both ends; a signal too short for its mirror image is taken to go on with zeros, as the package does."""
    missing = max(0, max(left, right) + 1 - x.shape[-1])
    padded = F.pad(F.pad(x, (0, missing)), (left, right), "reflect")
    return padded[..., : padded.shape[-1] - missing]


def _folded(weights: Mapping[str, Tensor], prefix: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a weight-normalised convolution: each row of `weight_v` scaled to the length `weight_g`."""
    direction = weights[prefix + ".weight_v"]
    length = direction.flatten(1).norm(dim=1).view(-1, 1, 1)
    return direction * (weights[prefix + ".weight_g"] / length), weights[prefix + ".bias"]


@dataclass(frozen=True)
class _ConvSpec:
    prefix: str
    channels_in: int
    channels_out: int
    kernel: int
    stride: int = 1

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield self.prefix + ".bias", (self.channels_out,)
        yield self.prefix + ".weight_g", (self.channels_out, 1, 1)
        yield self.prefix + ".weight_v", (self.channels_out, self.channels_in, self.kernel)

    def build(self, weights: Mapping[str, Tensor]) -> _Conv:
        return _Conv(*_folded(weights, self.prefix), self.stride)


@dataclass(frozen=True)
class _ConvTransposeSpec:
    prefix: str
    channels_in: int
    channels_out: int
    stride: int

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield self.prefix + ".bias", (self.channels_out,)
        yield self.prefix + ".weight_g", (self.channels_in, 1, 1)
        yield self.prefix + ".weight_v", (self.channels_in, self.channels_out, 2 * self.stride)

    def build(self, weights: Mapping[str, Tensor]) -> _ConvTranspose:
        return _ConvTranspose(*_folded(weights, self.prefix))


@dataclass(frozen=True)
class _ResidualSpec:
    prefix: str
    channels: int

    def parts(self) -> tuple[_ConvSpec, _ConvSpec, _ConvSpec]:
        narrow = self.channels // 2
        return (
            _ConvSpec(self.prefix + ".block.1.conv.conv", self.channels, narrow, 3),
            _ConvSpec(self.prefix + ".block.3.conv.conv", narrow, self.channels, 1),
            _ConvSpec(self.prefix + ".shortcut.conv.conv", self.channels, self.channels, 1),
        )

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for part in self.parts():
            yield from part.shapes()

    def build(self, weights: Mapping[str, Tensor]) -> _Residual:
        first, second, shortcut = self.parts()
        return _Residual(first.build(weights), second.build(weights), shortcut.build(weights))


@dataclass(frozen=True)
class _EluSpec:
    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        return iter(())

    def build(self, weights: Mapping[str, Tensor]) -> _Elu:
        return _Elu()


@dataclass(frozen=True)
class _LstmSpec:
    prefix: str
    channels: int

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for layer in range(LSTM_LAYERS):
            for side in ("ih", "hh"):
                yield f"{self.prefix}.weight_{side}_l{layer}", (4 * self.channels, self.channels)
                yield f"{self.prefix}.bias_{side}_l{layer}", (4 * self.channels,)

    def build(self, weights: Mapping[str, Tensor]) -> _Lstm:
        layers = []
        for layer in range(LSTM_LAYERS):
            weight_ih, weight_hh, bias_ih, bias_hh = (
                weights[f"{self.prefix}.{kind}_l{layer}"] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            layers.append((weight_ih, weight_hh.contiguous(), bias_ih + bias_hh))
        return _Lstm(layers)


_Spec = _ConvSpec | _ConvTransposeSpec | _ResidualSpec | _EluSpec | _LstmSpec


def _encoder_specs() -> list[_Spec]:
    """The encoder, layer by layer; a layer's number in the checkpoint is its place in this list."""
    channels = FILTERS
    specs: list[_Spec] = [_ConvSpec("encoder.model.0.conv.conv", 1, channels, 7)]
    for stride in STRIDES:
        at = len(specs)
        specs.append(_ResidualSpec(f"encoder.model.{at}", channels))
        specs.append(_EluSpec())
        specs.append(_ConvSpec(f"encoder.model.{at + 2}.conv.conv", channels, 2 * channels, 2 * stride, stride))
        channels *= 2
    specs.append(_LstmSpec(f"encoder.model.{len(specs)}.lstm", channels))
    specs.append(_EluSpec())
    specs.append(_ConvSpec(f"encoder.model.{len(specs)}.conv.conv", channels, DIMENSION, 7))
    return specs


def _decoder_specs() -> list[_Spec]:
    """The decoder, layer by layer; a layer's number in the checkpoint is its place in this list."""
    channels = FILTERS * 2 ** len(STRIDES)
    specs: list[_Spec] = [_ConvSpec("decoder.model.0.conv.conv", DIMENSION, channels, 7)]
    specs.append(_LstmSpec("decoder.model.1.lstm", channels))
    for stride in reversed(STRIDES):
        at = len(specs)
        specs.append(_EluSpec())
        specs.append(_ConvTransposeSpec(f"decoder.model.{at + 1}.convtr.convtr", channels, channels // 2, stride))
        channels //= 2
        specs.append(_ResidualSpec(f"decoder.model.{at + 2}", channels))
    specs.append(_EluSpec())
    specs.append(_ConvSpec(f"decoder.model.{len(specs)}.conv.conv", channels, 1, 7))
    return specs


ENCODER = _encoder_specs()
DECODER = _decoder_specs()
