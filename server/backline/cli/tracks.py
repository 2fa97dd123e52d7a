"""The tracks of one song, side by side for a pack that hears several: of a file each, or of a mix that is split."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from backline.cli.audio_files import Sound, at_rate, served
from backline.cli.console import UserError
from backline.sound_files import Audio
from backline_client import Block, Client, RenderCall
from backline_protos.v1 import backline_pb2 as pb


class Tracks:
    """Blocks [channel of all tracks, sample], and which of a pack's inputs the channels are."""

    def __init__(self, channels: Mapping[str, int], sound: Iterator[Audio]) -> None:
        """`channels`: of each input, in order; one of no name is all that a pack hears. `sound`: their blocks."""
        self.channels = sum(channels.values())
        self.inputs = {name: count for name, count in channels.items() if name}
        self.samples = 0  # of one channel, so far
        self._sound = sound

    def blocks(self) -> Iterator[Audio]:
        """All of it, once."""
        for block in self._sound:
            self.samples += block.shape[1]
            yield block


def of_files(sounds: Sequence[Sound], rate: int, pack: pb.Pack, task: str) -> Tracks:
    """A file each, in the order of the pack's inputs, as long as the longest of them.

    Raises:
        UserError: there are more files than inputs.
    """
    names = inputs_of(pack, task) or [""]
    if len(sounds) > len(names):
        raise UserError(
            f"{pack.name} hears {', '.join(names) if names[0] else 'one track'}: give a file for each, once"
        )
    channels, parts = {}, []
    for name, sound in zip(names, sounds, strict=False):
        channels[name], blocks = served(sound, pack)
        parts.append(at_rate(blocks, sound.rate, rate, channels[name]))
    return Tracks(channels, side_by_side(parts, list(channels.values())))


def of_mix(sound: Sound, rate: int, pack: pb.Pack, task: str, split: str, client: Client) -> Tracks:
    """A mix that the pack `split` takes apart: its outputs go to the inputs of their names, the rest to the one left.

    Raises:
        UserError: they do not fit each other.
    """
    ports = {port.name: port.channels for port in client.pack(split).ports}
    names = inputs_of(pack, task)
    left = [name for name in names if name not in ports]
    rest = [port for port in ports if port not in names]
    if len(left) > 1 or bool(left) != bool(rest) or len(ports) < 2:
        raise UserError(
            f"{split} plays {', '.join(ports)}, and {pack.name} hears {', '.join(names) or 'one track'}: use a pack "
            "that takes these apart, such as stems"
        )
    members = {name: rest if name in left else [name] for name in names}
    channels, blocks = served(sound, client.pack(split))
    width = {name: max(ports[port] or channels for port in members[name]) for name in names}

    def separated() -> Iterator[Audio]:
        blocks_in = at_rate(blocks, sound.rate, rate, channels)
        with client.render_blocks(split, blocks_in, rate, channels, seed=0, client_name="backline") as rendering:
            for stems in together(rendering, list(ports)):
                yield np.concatenate([np.sum([stems[port] for port in members[name]], 0) for name in names])

    return Tracks(width, separated())


def inputs_of(pack: pb.Pack, task: str) -> list[str]:
    """The inputs that a pack hears in a task; none: one of no name."""
    doing = [each for each in pack.tasks if each.name == task] or list(pack.tasks[:1])
    return [group.name for group in pack.inputs if not doing or group.name in doing[0].inputs]


def together(rendering: RenderCall, ports: Sequence[str]) -> Iterator[dict[str, Audio]]:
    """The outputs of a rendering [channel, sample], every one of them for the same samples."""
    waiting: dict[str, Block] = {}
    for block in rendering:
        waiting[block.port] = block
        if len(waiting) == len(ports):
            if len({(each.position, each.end) for each in waiting.values()}) > 1:
                raise UserError("the server's outputs do not lie side by side: try again")
            yield {port: each.audio for port, each in waiting.items()}
            waiting.clear()


def side_by_side(parts: Sequence[Iterator[Audio]], channels: Sequence[int]) -> Iterator[Audio]:
    """Blocks [channel of all parts, sample] of parts [channel, sample] that are cut in their own ways.

    One that ends before the others is silent from there on.
    """
    held = [np.zeros((count, 0), np.float32) for count in channels]
    open_parts = set(range(len(parts)))
    while open_parts:
        for number in sorted(open_parts):
            if held[number].shape[1]:
                continue
            block = next(parts[number], None)
            if block is None:
                open_parts.discard(number)
            else:
                held[number] = block
        lengths = [held[number].shape[1] for number in open_parts]
        if not lengths or not (count := min(lengths)):
            continue
        ready = [part[:, :count] for part in held]
        yield np.concatenate([np.pad(part, ((0, 0), (0, count - part.shape[1]))) for part in ready])
        held = [part[:, count:] for part in held]
