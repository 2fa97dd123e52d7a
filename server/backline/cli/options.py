"""Options that several commands share, and what their texts mean."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from backline_client import SessionOptions, Transport

PackName = Annotated[str, typer.Option("--pack", "-p", help="Name of the pack, see `backline packs list`.")]
PackFolders = Annotated[
    list[Path] | None, typer.Option("--packs", help="A further folder of packs; may be given several times.")
]
Device = Annotated[str, typer.Option(help="Where the models run: auto, cpu or cuda.")]
Server = Annotated[
    str | None,
    typer.Option(help="Address of a running server, for example 127.0.0.1:50505; without it, one runs inside."),
]
Seed = Annotated[int | None, typer.Option(help="The same input and seed give the same output.", min=0)]
Chunk = Annotated[float | None, typer.Option(help="Seconds of output that the model plays at a time.")]
Visibility = Annotated[
    float | None,
    typer.Option(help="Seconds of input past a chunk's start that the model hears first; negative plays ahead."),
]
Guidance = Annotated[float | None, typer.Option(help="How closely the model follows the input (CFG scale).")]
Temperature = Annotated[float | None, typer.Option(help="How freely it plays.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A parameter of the pack, NAME=VALUE; may be given several times."),
]
Tempo = Annotated[float | None, typer.Option(help="Quarter notes per minute, for packs that follow the beat.", min=1)]
Signature = Annotated[str, typer.Option(help="Time signature.")]
Downbeat = Annotated[float, typer.Option(help="Seconds from the start of the input to the first beat of a bar.")]


def parse_settings(settings: list[str] | None, **named: float | None) -> dict[str, float]:
    """`--set name=value` texts and the options with names of their own as the parameters of a session."""
    parameters = {name: value for name, value in named.items() if value is not None}
    for text in settings or []:
        name, _, value = text.partition("=")
        try:
            parameters[name.strip()] = float(value)
        except ValueError:
            raise typer.BadParameter(f"{text!r}: use NAME=VALUE with a number, for example temperature=0.9") from None
    return parameters


def session_options(
    chunk: float | None, visibility: float | None, seed: int | None, parameters: dict[str, float]
) -> SessionOptions:
    """What was asked for; what was not stays the pack's default."""
    options: SessionOptions = {"parameters": parameters, "client_name": "backline"}
    if chunk is not None:
        options["chunk_seconds"] = chunk
    if visibility is not None:
        options["visibility_seconds"] = visibility
    if seed is not None:
        options["seed"] = seed
    return options


def parse_transport(tempo: float | None, signature: str, downbeat: float) -> list[Transport]:
    """The beat of the whole input; nothing where no tempo is given."""
    from backline_client import Transport

    try:
        numerator, denominator = (int(part) for part in signature.split("/"))
    except ValueError:
        raise typer.BadParameter(f"time signature {signature!r}: use 4/4, 3/4, 6/8, ...") from None
    if tempo is None:
        return []
    song_position = -downbeat * tempo / 60.0
    return [Transport(tempo, 0, numerator=numerator, denominator=denominator, song_position=song_position)]


def pick_device(name: str) -> str:
    """The device for "auto", "cpu" or "cuda"."""
    from backline.service.server import choose_device

    try:
        return choose_device(name)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
