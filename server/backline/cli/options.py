"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Iterable
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from typer.models import OptionInfo

if TYPE_CHECKING:
    from backline.corpus.corpus import Wanted
    from backline.corpus.songs import Songs
    from backline.packs.pack import Pack
    from backline_client import SessionOptions, Transport

DOWNBEAT_SECONDS = 86_400.0  # within which a bar begins, before or after the start of the input


class Credentials(TypedDict, total=False):
    """What `backline_client.Client` takes beside the address."""

    key: str | None
    ca: Path | None
    certificate: Path | None


class ChannelLayout(StrEnum):
    """What the channels of the input are."""

    AUTO = "auto"
    DISCRETE = "discrete"
    SURROUND_5_1 = "5.1"
    SURROUND_7_1 = "7.1"


class LogFormat(StrEnum):
    """How a server tells what happens."""

    TEXT = "text"
    JSON = "json"


def finite(value: float | None) -> float | None:
    """Callback of every option that is a number: ranges let NaN pass, and infinity where they have no end."""
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number to work with: use a finite one")
    return value


def place_of_server(address: str | None) -> str | None:
    """Callback of the address of a server: HOST:PORT, [IPV6]:PORT or unix:PATH, as gRPC takes them."""
    if address is None or re.fullmatch(r"unix(-abstract)?:.+", address):
        return address
    match = re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^\s:/\[\]]+):(\d{1,9})", address)
    if match is None or not 0 < int(match[2]) < 65_536:
        raise typer.BadParameter(
            f"{address!r} is no address of a server: use HOST:PORT with a port from 1 to 65535, as in 127.0.0.1:50505, "
            "or unix:/path/to/socket"
        )
    return address


def printable(name: str | None) -> str | None:
    """Callback of a name that is sent to a server: the wire carries text, not bytes of some other encoding."""
    if name is not None and not name.isprintable():
        raise typer.BadParameter(f"{name!a} is no name: it holds what no text does")
    return name


def folders(paths: list[Path] | None) -> list[Path] | None:
    """Callback of folders that are looked into: a mistyped one would be taken for an empty one."""
    for path in paths or []:
        if not path.is_dir():
            raise typer.BadParameter(f"there is no folder {path}: make it first, or name another one")
    return paths


def place_of(several: str) -> OptionInfo:
    """The option that says where a rendering goes, which may have several `outputs` or `tracks`."""
    told = f"Where to write; several {several} become OUT-<name>. A folder (ending in /) gets <name>.wav for each."
    return typer.Option("--output", "-o", metavar="OUT", help=told)


PackName = Annotated[
    str, typer.Option("--pack", "-p", help="Name of the pack, see `backline packs list`.", callback=printable)
]
PackFolders = Annotated[
    list[Path] | None,
    typer.Option("--packs", help="A further folder of packs; may be given several times.", callback=folders),
]
Device = Annotated[str, typer.Option(help="Where the models run: auto, cpu or cuda.")]
Server = Annotated[
    str | None,
    typer.Option(
        help="Address of a running server, for example 127.0.0.1:50505; without it, one runs inside.",
        callback=place_of_server,
    ),
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key-file",
        help="With --server: a file that holds your access key; without it, BACKLINE_KEY is looked at. Never the key "
        "itself, which others would see in the list of processes.",
    ),
]
Authority = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        metavar="PEM",
        envvar="BACKLINE_CA",
        help="With --server: whoever signed its certificate, where that is no public authority.",
    ),
]
ClientCertificate = Annotated[
    Path | None,
    typer.Option(
        "--client-cert", metavar="PEM", help="With --server: your certificate and private key, if it asks for one."
    ),
]
KeysFile = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        metavar="FILE",
        help="The access keys' file. Left out: ~/.config/backline/access.toml ($XDG_CONFIG_HOME).",
    ),
]
Seed = Annotated[int | None, typer.Option(help="The same input and seed give the same output.", min=0, max=2**64 - 1)]
Chunk = Annotated[float | None, typer.Option(help="Seconds of output that the model plays at a time.", callback=finite)]
Visibility = Annotated[
    float | None,
    typer.Option(
        help="Seconds of input past a chunk's start that the model hears first; negative plays ahead.", callback=finite
    ),
]
Guidance = Annotated[
    float | None, typer.Option(help="How closely the model follows the input (CFG scale).", callback=finite)
]
Temperature = Annotated[float | None, typer.Option(help="How freely it plays.", callback=finite)]
SongsFolder = Annotated[
    Path | None,
    typer.Option(
        "--songs", metavar="CORPUS", help="Songs from disk, see `backline data prepare`; without it, composed ones."
    ),
]
SongsToJudge = Annotated[
    str | None,
    typer.Option(
        "--songs",
        metavar="CORPUS|musdb18hq:DIR",
        help="Songs from disk: a corpus's test songs, see `backline data prepare`, or a data set's as it lies there; "
        "without it, composed ones.",
    ),
]
ComposedShare = Annotated[
    float | None,
    typer.Option(
        "--composed", help="With --songs or --keep-world, the share of composed songs among them.", min=0, max=1
    ),
]
KeptWorld = Annotated[
    str | None,
    typer.Option(
        "--keep-world",
        metavar="WORLD",
        help="With --from, the world that the pack knows: it is judged by its songs as well and may lose 5 % there at "
        "most, and the --composed share is of it.",
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter of the pack, NAME=VALUE; may be given several times."),
]
Texts = Annotated[
    list[str] | None,
    typer.Option("--text", help="A text of the pack, NAME=TEXT, such as a prompt; may be given several times."),
]
Task = Annotated[str | None, typer.Option(help="Which of its tasks the pack does; without it, its first.")]
Inputs = Annotated[
    str | None,
    typer.Option(
        "--inputs",
        metavar="NAME:CHANNELS,...",
        help="Which inputs of the pack the channels are, in their order: voice:1,band:2. Left out: one input.",
    ),
]
Tempo = Annotated[
    float | None,
    typer.Option(help="Quarter notes per minute, for packs that follow the beat.", min=1, max=999, callback=finite),
]
Signature = Annotated[str, typer.Option(help="Time signature.")]
Downbeat = Annotated[
    float,
    typer.Option(
        help="Seconds from the start of the input to the first beat of a bar.",
        min=-DOWNBEAT_SECONDS,
        max=DOWNBEAT_SECONDS,
        callback=finite,
    ),
]
Layout = Annotated[
    ChannelLayout,
    typer.Option(
        help="What the channels of the input are, for models that take fewer: 5.1 or 7.1 in SMPTE's order (L R C LFE "
        "Ls Rs, then Lrs Rrs), or voices of their own; auto takes 6 and 8 for 5.1 and 7.1."
    ),
]


def check_among(what: str, name: str, known: Iterable[str]) -> None:
    """Refuses a name that is none of those that there are."""
    names = list(known)
    if name not in names:
        raise typer.BadParameter(f"there is no {what} {name!r}: use {', '.join(names)}")


def parse_settings(settings: list[str] | None, **named: float | None) -> dict[str, float]:
    """`--set name=value` texts and the options with names of their own as the parameters of a session."""
    parameters = {name: value for name, value in named.items() if value is not None}
    for text in settings or []:
        name, _, value = text.partition("=")
        try:
            number = float(value)
            if not (math.isfinite(number) and name.isprintable()):
                raise ValueError
        except ValueError:
            raise typer.BadParameter(f"{text!a}: use NAME=VALUE with a number, for example temperature=0.9") from None
        parameters[name.strip()] = number
    return parameters


def session_options(
    chunk: float | None,
    visibility: float | None,
    seed: int | None,
    parameters: dict[str, float],
    layout: ChannelLayout = ChannelLayout.AUTO,
    texts: list[str] | None = None,
    task: str | None = None,
    inputs: str | None = None,
) -> SessionOptions:
    """What was asked for; what was not stays the pack's default."""
    options: SessionOptions = {"parameters": parameters, "client_name": "backline"}
    if chunk is not None:
        options["chunk_seconds"] = chunk
    if visibility is not None:
        options["visibility_seconds"] = visibility
    if seed is not None:
        options["seed"] = seed
    if layout is not ChannelLayout.AUTO:
        options["channel_layout"] = layout.value
    if texts:
        options["texts"] = parse_texts(texts)
    if task is not None:
        options["task"] = task
    if inputs is not None:
        options["inputs"] = parse_inputs(inputs)
    return options


def parse_texts(said: list[str]) -> dict[str, str]:
    """`--text name=text` as the texts of a session."""
    texts = {}
    for entry in said:
        name, equals, text = entry.partition("=")
        if not equals or not name.strip():
            raise typer.BadParameter(f"{entry!a}: use NAME=TEXT, for example prompt='a rhodes'")
        texts[name.strip()] = text
    return texts


def parse_inputs(said: str) -> dict[str, int]:
    """`--inputs name:channels,...` as the inputs of a session."""
    inputs = {}
    for entry in said.split(","):
        name, _, channels = entry.strip().rpartition(":")
        if not name or not channels.isascii() or not channels.isdigit() or not 0 < int(channels) <= 64:
            raise typer.BadParameter(f"{entry!a}: use NAME:CHANNELS, for example voice:1,band:2")
        if name in inputs:
            raise typer.BadParameter(f"input {name!a} is given twice: give each once")
        inputs[name] = int(channels)
    return inputs


def parse_transport(tempo: float | None, signature: str, downbeat: float) -> list[Transport]:
    """The beat of the whole input; nothing where no tempo is given."""
    from backline_client import Transport

    match = re.fullmatch(r"\s*(\d{1,2})\s*/\s*(1|2|4|8|16|32|64)\s*", signature, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= 64:
        raise typer.BadParameter(
            f"time signature {signature!a}: use 1 to 64 beats over 1, 2, 4, 8, 16, 32 or 64, as in 4/4, 3/4 or 6/8"
        )
    if tempo is None:
        return []
    song_position = -downbeat * tempo / 60.0
    numerator, denominator = int(match[1]), int(match[2])
    return [Transport(tempo, 0, numerator=numerator, denominator=denominator, song_position=song_position)]


def credentials(server: str | None, key_file: Path | None, ca: Path | None, certificate: Path | None) -> Credentials:
    """What a `Client` shows to the server at that address."""
    if server is None:
        if key_file or certificate:
            raise typer.BadParameter("a key is for another machine's server: say which with --server HOST:PORT")
        return {}
    key = os.environ.get("BACKLINE_KEY", "") if key_file is None else key_file.read_text()
    return {"key": key.strip() or None, "ca": ca, "certificate": certificate}


def find_pack(name: str, folders: list[Path] | None) -> Pack:
    """The pack of that name, verified."""
    from backline.packs.pack import read_pack
    from backline.packs.registry import PackRegistry

    return read_pack(PackRegistry(folders or []).entry(name).folder)


def pick_device(name: str) -> str:
    """The device for "auto", "cpu" or "cuda"."""
    from backline.service.server import choose_device

    try:
        return choose_device(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def songs_to_judge(place: str, wanted: Wanted) -> Songs:
    """What `--songs` says to `evaluate`.

    Raises:
        CorpusError: nothing there is a song to judge by.
    """
    from backline.corpus.corpus import Corpus
    from backline.corpus.in_place import DATA_SETS, read_in_place
    from backline.corpus.manifest import CorpusError
    from backline.corpus.songs import CorpusSongs

    if place.partition(":")[0] in DATA_SETS:
        return read_in_place(place, wanted)
    songs = CorpusSongs(Corpus.open(Path(place)), wanted)
    if not songs.test_songs():
        raise CorpusError(
            f"{place} has no test songs with the stems that are needed: `backline data prepare --split test` makes some"
        )
    return songs


def song_source(
    songs: Path | None,
    composed: float | None,
    world: str,
    sample_rate: int,
    wanted: Wanted,
    kept: str | None = None,
    filters: Collection[str] = (),
    seconds: float | None = None,
) -> Songs:
    """What `--songs`, `--composed`, a world's name and that of `--keep-world` say.

    Args:
        sample_rate: Hz, at which songs are composed.
        wanted: which songs of a corpus: `has_four_tracks`, for example.
        kept: the world that the composed share is of, beside a corpus or the songs of `world`.
        filters: that clips of a corpus pass; they are shorter then, since few spans are long that do.
        seconds: of such clips; without, as short as that.
    Raises:
        CorpusError: the corpus cannot be read.
    """
    from backline.corpus.corpus import Corpus
    from backline.corpus.songs import FILTERED_SECONDS, Composer, CorpusSongs, Mixed
    from backline.music.world import WORLDS

    for name in (world, kept or world):
        check_among("world", name, WORLDS)
    composer = Composer(WORLDS[world], sample_rate)
    learnt: Songs = composer if songs is None else CorpusSongs(Corpus.open(songs), wanted)
    if filters and isinstance(learnt, CorpusSongs):
        learnt = replace(learnt, seconds=seconds or FILTERED_SECONDS, filters=filters)
    if not composed or (songs is None and kept is None):
        return learnt
    return Mixed(learnt, Composer(WORLDS[kept or world], sample_rate), composed, kept=kept is not None)
