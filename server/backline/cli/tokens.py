"""`backline tokens`: songs as token files (`.duo`), made by a pack that hears tokens and heard through one again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backline.cli import options

if TYPE_CHECKING:
    from backline_client import TokenHeader

tokens = typer.Typer(
    help="Songs as tokens: a file of a few kB a minute, made on one machine and heard on another.",
    no_args_is_help=True,
)

TO_TOKENS = "tokens"  # what packs of several tasks call that

TokenFile = Annotated[Path, typer.Argument(metavar="FILE", help="A token file, see `backline tokens encode`.")]


@tokens.command()
def encode(
    songs: Annotated[
        list[Path],
        typer.Argument(
            metavar="SONG...",
            help="Audio files, one for each track that the pack hears and in its order: the voice, then what "
            "accompanies it. Or one mix, with --split.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The token file.")],
    pack: options.PackName = "duotok",
    split: Annotated[
        str | None,
        typer.Option(
            metavar="PACK",
            help="Take one mix apart with this pack first, such as stems: its outputs go to the tracks of their "
            "names, all others to the track that is left.",
        ),
    ] = None,
    server: options.Server = None,
    key_file: options.KeyFile = None,
    ca: options.Authority = None,
    client_cert: options.ClientCertificate = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    settings: options.Settings = None,
    task: options.Task = None,
) -> None:
    """Make a song tokens, of any length. An older file is replaced when the new one is whole.

    Example: [cyan]backline tokens encode voice.wav band.wav -o song.duo[/]

    A mix: [cyan]backline tokens encode song.flac --split stems -o song.duo[/]
    """
    from contextlib import ExitStack

    from rich.progress import Progress

    from backline.cli.audio_files import opened, served_rate
    from backline.cli.connection import connected
    from backline.cli.console import UserError, console, error_console
    from backline.cli.takes import check_not_source, ended_in_order
    from backline.cli.tracks import of_files, of_mix
    from backline.whole_file import whole_file
    from backline_client import Frames, TokenHeader, TokenReader, TokenWriter

    credentials = options.credentials(server, key_file, ca, client_cert)
    parameters = options.parse_settings(settings)
    for song in songs:
        check_not_source(output, song)
    if split is not None and len(songs) > 1:
        raise typer.BadParameter(f"--split takes one mix apart, and here are {len(songs)} files: give one of the two")
    with (
        ended_in_order(),
        ExitStack() as stack,
        whole_file(output) as part,
        connected(server, packs or [], device, credentials=credentials) as client,
        Progress(console=error_console, transient=True, disable=not error_console.is_terminal) as bar,
    ):
        described = client.pack(pack)
        task = task or next((each.name for each in described.tasks if each.name == TO_TOKENS), "")
        sounds = [stack.enter_context(opened(song)) for song in songs]
        rate = served_rate(sounds[0].rate)
        header = TokenHeader.of(described, rate)
        if split is None:
            tracks = of_files(sounds, rate, described, task)
        else:
            tracks = of_mix(sounds[0], rate, described, task, split, client)
        seconds = None if sounds[0].frames is None else sounds[0].frames / sounds[0].rate
        shown = bar.add_task(f"{pack} listens", total=seconds)
        with part.open("w+b") as file:
            writer = TokenWriter(file, header)
            with client.render_blocks(
                pack, tracks.blocks(), rate, tracks.channels, inputs=tracks.inputs, task=task, parameters=parameters,
                want_audio=False, want_frames=True, seed=0, client_name="backline",
            ) as rendering:  # fmt: skip
                for event in rendering.events():
                    if isinstance(event, Frames):
                        writer.add(event)
                        bar.update(shown, completed=float(writer.frames / header.rate))
            if not tracks.samples:
                damage = next((sound.damage for sound in sounds if sound.damage), "")
                raise UserError(damage or f"{songs[0]} holds no samples: there is nothing to make tokens of")
            writer.finish(tracks.samples)
    with TokenReader(output) as made:
        console.print(f"{output}: {told(made.header)}, {output.stat().st_size / 1000:.1f} kB", soft_wrap=True)
    if damage := next((sound.damage for sound in sounds if sound.damage), ""):
        raise UserError(f"{damage}; what could be read has been written")


@tokens.command()
def decode(
    source: TokenFile,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Where to write; several tracks become OUT-<name>. A folder (ending in /) gets <name>.wav for each.",
        ),
    ],
    pack: Annotated[
        str | None,
        typer.Option("--pack", "-p", help="Another pack than the one that made it, of the same tokenizer."),
    ] = None,
    server: options.Server = None,
    key_file: options.KeyFile = None,
    ca: options.Authority = None,
    client_cert: options.ClientCertificate = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    seed: options.Seed = None,
    settings: options.Settings = None,
    task: options.Task = None,
) -> None:
    """Hear a token file: as long as the song was, at its rate.

    Example: [cyan]backline tokens decode song.duo -o song.wav[/]
    """
    from rich.progress import Progress

    from backline.cli.audio_files import served_rate
    from backline.cli.connection import connected
    from backline.cli.console import console, error_console
    from backline.cli.takes import PortFiles, RenderedTakes, ended_in_order
    from backline_client import TokenReader

    credentials = options.credentials(server, key_file, ca, client_cert)
    wanted = options.session_options(None, None, seed, options.parse_settings(settings))
    files = PortFiles.at(output)
    with (
        ended_in_order(),
        TokenReader(source) as file,
        connected(server, packs or [], device, credentials=credentials) as client,
        Progress(console=error_console, transient=True, disable=not error_console.is_terminal) as bar,
    ):
        described = client.pack(pack or file.header.pack)
        file.check(described)
        wanted["task"] = task or next((each.name for each in described.tasks if each.takes), "")
        samples, rate = file.header.samples, served_rate(file.header.sample_rate)
        shown = bar.add_task(f"{described.name} plays", total=samples)
        with client.render_blocks(described.name, file.frames(), rate, channels=1, **wanted) as rendering:
            ports = {port.name: port.channels for port in rendering.ready.ports}
            paths = files.paths(list(ports), source)
            with RenderedTakes(paths, ports, (rate, rate), samples) as takes:
                for block in rendering:
                    if block.position < samples:  # the last frame may go on beyond the song
                        takes.write(block.port, block.position, block.audio[:, : samples - block.position])
                        bar.update(shown, completed=block.end)
                takes.keep(samples)
    for port, path in paths.items():
        console.print(f"{path}: {samples / rate:.1f} s, {ports[port]} channels at {rate} Hz", soft_wrap=True)
    console.print(f"seed {rendering.ready.seed}")


@tokens.command()
def info(source: TokenFile) -> None:
    """What a token file holds, once it has been found whole.

    Example: [cyan]backline tokens info song.duo[/]
    """
    from backline.cli.console import console
    from backline_client import TokenReader

    with TokenReader(source) as file:
        header = file.header
    bits = header.bits_per_frame * header.rate
    console.print(f"{source}: {told(header)}, {float(bits) / 1000:g} kbit/s, {source.stat().st_size / 1000:.1f} kB")
    console.print(f"made by {header.pack}, tokenizer {header.tokenizer}")
    for book in header.codebooks:
        console.print(f"{book.name}: {book.size} entries" + (f", of {book.track}" if book.track != book.name else ""))


def told(header: TokenHeader) -> str:
    """How long a song is, and what of."""
    rate = f"{float(header.rate):g} a second"
    return (
        f"{header.seconds:.1f} s at {header.sample_rate} Hz, {header.frames} frames of {len(header.codebooks)}, {rate}"
    )
