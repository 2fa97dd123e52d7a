"""A file played to HAFM's stages all at once, or clip by clip, as its paper does: no session, and nothing live."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

from backline.cli import options
from backline.cli.audio_files import change_rate, read_audio, with_channels
from backline.cli.console import UserError, console
from backline.cli.takes import PortFiles, RenderedTakes, ended_in_order
from backline.models.errors import PackError
from backline.models.hafm.band import Sampling
from backline.models.hafm.interleaved.config import CLIPS
from backline.models.hafm.load import load
from backline.models.hafm.offline import generate, generate_sliding, holding
from backline.models.hafm.tables import read_tables
from backline.packs.pack import read_tensors
from backline_client import Transport

WAYS = ("paper", "sliding")
LONGEST = 120  # seconds of a clip: attention to all of it takes memory and time by its square


def render_clip(
    source: Path,
    output: str,
    pack: str,
    folders: list[Path],
    device: str,
    way: str,
    seed: int | None,
    parameters: Mapping[str, float],
    transport: list[Transport],
) -> None:
    """Writes what the stages play to a file.

    Args:
        way: "paper", the file as one clip; or "sliding", a second after another, each at the end of a clip of the
            length that the stages were trained on.
    Raises:
        UserError, PackError: the pack's stages are not the paper's, or the file is too long.
    """
    from backline.models.stream import Transport as Beat

    files = PortFiles.at(output)
    found = options.find_pack(pack, folders)
    if found.family != "hafm" or "coarse" not in found.config.get("network", {}):
        raise UserError(f"{pack} has not the stages of HAFM's paper: leave --clip out, and it plays block by block")
    sound, rate = read_audio(source)
    seconds = Fraction(sound.shape[1], rate)
    if way == "paper" and seconds > LONGEST:
        raise UserError(f"{source} lasts {float(seconds):.0f} s, and a clip {LONGEST} s at most: use --clip sliding")
    tables = read_tables(found.config)
    known = {"guidance": float, "temperature": float, "top_k": int}
    if unknown := parameters.keys() - known.keys():
        raise UserError(f"{min(unknown)!r} is no parameter of a whole clip: use {', '.join(known)}")
    values = {**vars(tables.sampling), **parameters}
    sampling = Sampling(float(values["guidance"]), float(values["temperature"]), int(values["top_k"]))
    clips = CLIPS if way == "sliding" else dict.fromkeys(CLIPS, seconds)
    stream = load(holding(found.config, clips), read_tensors(found), device)
    voice = change_rate(with_channels(sound, 1), rate, stream.parts.encoder.sample_rate)
    beat = None
    if transport:
        told = transport[0]
        beat = Beat(0.0, True, told.tempo, told.numerator, told.denominator, told.song_position)
    seed = secrets.randbits(32) if seed is None else seed
    play = generate if way == "paper" else generate_sliding
    try:
        rendered = play(stream, voice, seed, sampling, beat)
    except ValueError as error:
        raise PackError([str(error)], pack) from error
    [port] = stream.spec.ports
    [path] = files.paths([port.name], source).values()
    rates = (stream.parts.codec.sample_rate, rate)
    with ended_in_order(), RenderedTakes({port.name: path}, {port.name: 1}, rates, None) as takes:
        takes.write(port.name, 0, rendered.audio[:, : int(seconds * rates[0])])
        takes.keep(sound.shape[1])
    console.print(f"{path}: {float(seconds):.1f} s, 1 channel at {rate} Hz, {way}", soft_wrap=True)
    console.print(f"seed {seed}")
