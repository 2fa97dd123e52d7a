"""What the commands of `backline evaluate` share: options, the pack and the songs, progress, and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline.corpus.corpus import Wanted
    from backline.corpus.songs import Songs
    from backline.evaluation.live import Setting
    from backline.evaluation.separation import Finder, Opinion
    from backline.measures.embeddings import Embedding
    from backline.measures.report import Report
    from backline.models.stream import Stream, StreamSpec
    from backline.music.world import World
    from backline.packs.pack import Pack

evaluate = typer.Typer(
    help="Measure what a pack plays, on pieces that no training hears; figures with their standard errors.",
    no_args_is_help=True,
)

PackArgument = Annotated[str, typer.Argument(metavar="[PACK]", help="Name of the pack, see `backline packs list`.")]
Pieces = Annotated[
    int,
    typer.Option(
        help="Held-out pieces, always the same ones, and at most as many as there are. More make errors smaller.", min=1
    ),
]
WorldName = Annotated[
    str | None, typer.Option("--world", help="What the pieces are like; without it, the world the pack was trained in.")
]
EvaluationSeed = Annotated[
    int, typer.Option(help="Of everything drawn; the pieces do not change with it.", min=0, max=1 << 40)
]
Vggish = Annotated[
    Path | None,
    typer.Option(help="VGGish weights of torchvggish: take the Frechet distance in VGGish as well, as papers do."),
]
Musicnn = Annotated[
    Path | None,
    typer.Option(
        help="The wheel of `pip download --no-deps musicnn==0.1.0`, or a folder of it: take the Frechet distance in "
        "musicnn's embedding as well."
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="OUT.json", help="Where to write the figures.")]
Recordings = Annotated[
    Path | None,
    typer.Option(
        help="Folder of recordings to play to as well.", envvar="BACKLINE_AUDIO", exists=True, file_okay=False
    ),
]
Beside = Annotated[
    list[str] | None,
    typer.Option(metavar="PACK", help="Another pack that separates, for comparison; may be given several times."),
]

FALLBACK_WORLD = "narrow"  # for packs that do not say in which they were trained


def resident(pack: Pack, device: str) -> Stream:
    """The pack on a device."""
    from backline.packs.pack import load_stream

    return load_stream(pack, options.pick_device(device))


def separating(packs: Mapping[str, Pack], device: str) -> dict[str, Finder]:
    """Packs that separate, each in its own setting."""
    from backline.evaluation.live import default_setting
    from backline.evaluation.separation import session

    streams = {name: resident(pack, device) for name, pack in packs.items()}
    return {name: session(stream, default_setting(stream.spec)) for name, stream in streams.items()}


def session_setting(
    spec: StreamSpec, chunk: float | None, visibility: float | None, transport: bool, parameters: dict[str, float]
) -> Setting:
    """The pack's own setting, with what was asked for instead."""
    from backline.evaluation.live import check_setting, default_setting

    setting = replace(default_setting(spec), transport=transport, parameters=parameters)
    if chunk is not None:
        seconds = Fraction(chunk).limit_denominator(1_000_000)
        setting = replace(setting, chunk_seconds=seconds, visibility_seconds=spec.visibility(seconds))
    if visibility is not None:
        setting = replace(setting, visibility_seconds=visibility)
    check_setting(spec, setting)
    return setting


def described(setting: Setting, plays_along: bool = True) -> dict[str, object]:
    """For the report; what does not play along is told no beat and no key."""
    return {
        "chunk_seconds": float(setting.chunk_seconds),
        "visibility_seconds": setting.visibility_seconds,
        **({"transport": setting.transport, "key": setting.key} if plays_along else {}),
        **({"notes": True} if setting.notes else {}),
        "parameters": dict(setting.parameters),
    }


def pick_world(pack: Pack, name: str | None) -> tuple[str, World]:
    """The world of that name; without one, that of the pack's card, if it is one of ours."""
    from backline.music.world import WORLDS

    if name is None:
        trained_in = pack.config.get("card", {}).get("world")
        name = next((known for known, world in WORLDS.items() if trained_in in (known, repr(world))), FALLBACK_WORLD)
    options.check_among("world", name, WORLDS)
    return name, WORLDS[name]


def composed_songs(pack: Pack, world: str | None, sample_rate: int) -> tuple[dict[str, object], Songs]:
    """Composed songs at a rate, and what the report says of them."""
    from backline.corpus.songs import Composer

    name, wanted = pick_world(pack, world)
    return {"world": name}, Composer(wanted, sample_rate)


def judged_songs(
    pack: Pack, songs: str | None, world: str | None, sample_rate: int, wanted: Wanted
) -> tuple[dict[str, object], Songs]:
    """Those of `--songs`, if they are `wanted`, or composed ones; and what the report says of them."""
    if songs is None:
        return composed_songs(pack, world, sample_rate)
    if world is not None:
        raise typer.BadParameter("--world is for composed songs: leave it out with --songs")
    return {"songs": songs}, options.songs_to_judge(songs, wanted)


def pick_embeddings(vggish: Path | None, musicnn: Path | None) -> list[Embedding]:
    """Our own, and those whose weights are given."""
    from backline.measures.embeddings import MusicEmbedding
    from backline.measures.musicnn import read_musicnn
    from backline.measures.vggish import read_vggish

    found: list[Embedding] = [MusicEmbedding()]
    if vggish is not None:
        found.append(read_vggish(vggish))
    if musicnn is not None:
        found.append(read_musicnn(musicnn))
    return found


def pick_opinions(dnsmos: bool, nisqa: Path | None, sample_rate: int) -> list[Opinion]:
    """What is to be said of voices by themselves.

    Raises:
        ValueError: a package is not installed, or a file holds no weights.
    """
    from backline.measures.dnsmos import check_dnsmos
    from backline.measures.dnsmos import dnsmos as said
    from backline.measures.nisqa import read_nisqa

    found: list[Opinion] = []
    if dnsmos:
        check_dnsmos()
        found.append(partial(said, sample_rate=sample_rate))
    if nisqa is not None:
        found.append(partial(read_nisqa(nisqa), sample_rate=sample_rate))
    return found


def check_outputs(figures: Path | None, picture: Path | None = None) -> None:
    """Finds out before the work whether what is asked for can be written."""
    from importlib.util import find_spec

    from backline.cli.console import UserError
    from backline.whole_file import check_target

    for path, suffix in ((figures, ".json"), (picture, ".png")):
        if path is not None and path.suffix.lower() != suffix:
            raise UserError(f"{path} does not end in {suffix}: name it so")
        if path is not None:
            check_target(path)
    if picture is not None and find_spec("matplotlib") is None:
        raise UserError("a picture needs matplotlib: pip install 'backline[demo]', or leave --picture out")


@contextmanager
def progress_bar() -> Iterator[Callable[[str, float], None]]:
    """A function that shows what is being done and which share of it is, on a terminal."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from backline.cli.console import progress

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with progress(*columns) as bar:
        task = bar.add_task("", total=1.0)
        doing = ""

        def say(what: str, share: float) -> None:
            nonlocal doing
            if what != doing:
                doing = what
                bar.reset(task, description=what)
            bar.update(task, completed=share)

        yield say


def show(report: Report, output: Path | None) -> None:
    """Prints the tables and writes the figures."""
    from backline.cli.console import console, error_console, labelled
    from backline.measures.report import FiguresTable, gates_table, write_report

    said = ", ".join(f"{name} {value}" for name, value in report.settings.items() if value != {})
    console.print(f"{report.kind} of {report.pack}: {said}", soft_wrap=True)
    console.print(FiguresTable(report.rows))
    if report.gates:
        console.print(gates_table(report.gates))
    for quoted in report.quoted:
        console.print(f"quoted, not measured: {quoted.source}", soft_wrap=True)
        console.print(FiguresTable(quoted.rows))
    for note in report.notes:
        error_console.print(labelled("note", note, "yellow"), soft_wrap=True)
    if output is not None:
        write_report(output, report)
        console.print(f"written to {output}")
