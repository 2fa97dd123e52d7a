"""`backline music compose`: songs as Backline composes them for training, to hear and to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline.music.songs import Song
    from backline.music.world import World

music = typer.Typer(help="Compose songs with all that is true of them.", no_args_is_help=True)


@music.command()
def compose(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where to write a folder for each song.")
    ] = None,
    songs: Annotated[int, typer.Option(help="How many; each takes the next seed.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Of the first song; names it for ever.", min=0)] = 0,
    world: Annotated[str, typer.Option(help="What may occur: narrow, trio, band, pop, wide, people or open.")] = "wide",
    style: Annotated[
        str | None, typer.Option(help="One style only, for example 'bossa nova'; a wrong one lists them all.")
    ] = None,
    rate: Annotated[int, typer.Option(help="Sample rate in Hz.", min=16_000, max=96_000)] = 48_000,
    play: Annotated[bool, typer.Option("--play", help="Play them on this machine's speakers.")] = False,
) -> None:
    """Compose, render and sing songs; write mix, stems, notes and labels.

    Labels are key, tempo, metre, beats, chords and sections: labels.json holds all, chords.lab, beats.lab and
    sections.lab are for mir_eval and Sonic Visualiser, notes.mid for a DAW.

    Example: [cyan]backline music compose -o songs --songs 3 --style "bossa nova"[/]

    To hear one and keep nothing: [cyan]backline music compose --seed 7 --play[/]

    World people needs Debian's klettres-data and [cyan]pip install 'backline\\[voices]'[/]. World open has everything
    and needs [cyan]pip install 'backline\\[voices,sinsy,train,tunes]'[/] and [cyan]apt-get install klettres-data
    hydrogen-data hydrogen-drumkits avldrums.lv2-soundfont musescore-general-soundfont ffmpeg
    asterisk-core-sounds-es-g722 asterisk-core-sounds-ru-g722 asterisk-core-sounds-fr-g722
    asterisk-core-sounds-it-g722[/]. What is missing is named.
    """
    if output is None and not play:
        raise typer.BadParameter("nothing to do: name a folder with --output, or use --play")
    chosen = _world(world, style)

    from backline.cli.console import console, progress
    from backline.cli.sound_card import sounddevice_package
    from backline.music.labels import write_song
    from backline.music.songs import song
    from backline.whole_file import check_folder

    if output is not None:
        check_folder(output)
    sounddevice = sounddevice_package("or write files: backline music compose --output DIR") if play else None
    with progress() as bar:
        for number in bar.track(range(seed, seed + songs), description="composing"):
            made = song(number, chosen, rate)
            console.print(f"{'' if output is None else output / name(made)}  {summary(made)}".strip())
            if output is not None:
                write_song(made, output / name(made))
            if sounddevice is not None:
                sounddevice.play(made.mix, rate)
                sounddevice.wait()


def name(song: Song) -> str:
    """Of the song's folder."""
    return f"{song.piece.style.replace(' ', '-')}-{song.piece.seed}"


def summary(song: Song) -> str:
    piece = song.piece
    tune = f" on {piece.tune}" if piece.tune else ""
    return f"{piece.style}{tune}, {piece.key.name}, {piece.metre.name}, {piece.tempo:.0f} BPM, {piece.seconds:.1f} s"


def _world(name: str, style: str | None) -> World:
    """The world of that name, with that style alone if one is named."""
    from dataclasses import replace

    from backline.music.world import WORLDS

    options.check_among("world", name, WORLDS)
    world = WORLDS[name]
    if style is None:
        return world
    if style not in world.styles:
        styles = f"its styles are {', '.join(world.styles)}" if world.styles else "it has no styles; use --world wide"
        raise typer.BadParameter(f"world {name} has no style {style!r}: {styles}")
    return replace(world, styles=(style,))
