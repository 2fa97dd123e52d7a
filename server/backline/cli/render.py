"""`backline render`: a file in, one file per output of the model out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backline.cli import options


def render(
    source: Annotated[Path, typer.Argument(metavar="IN", help="An audio file, of any rate, length and channels.")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Where to write; several outputs become OUT-<name>. A folder (ending in /) gets <name>.wav for each.",
        ),
    ],
    pack: options.PackName = "default",
    server: options.Server = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    seed: options.Seed = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    guidance: options.Guidance = None,
    temperature: options.Temperature = None,
    settings: options.Settings = None,
    tempo: options.Tempo = None,
    signature: options.Signature = "4/4",
    downbeat: options.Downbeat = 0.0,
) -> None:
    """Play along with a file. The output is exactly as long as the file.

    Example: [cyan]backline render voice.wav -o band.wav --seed 7 --tempo 96[/]

    Into a folder: [cyan]backline render song.wav --pack stems -o stems/[/]
    """
    parameters = options.parse_settings(settings, guidance=guidance, temperature=temperature)
    transport = options.parse_transport(tempo, signature, downbeat)
    wanted = options.session_options(chunk, visibility, seed, parameters)

    from rich.progress import Progress

    from backline.cli.audio_files import PortFiles, change_rate, read_audio, served_rate, write_audio
    from backline.cli.connection import connected
    from backline.cli.console import UserError, console, error_console, labelled

    files = PortFiles.at(output)
    audio, rate = read_audio(source)
    if not audio.shape[1]:
        raise UserError(f"{source} holds no samples: there is nothing to play along with")
    session_rate = served_rate(rate)
    progress = Progress(console=error_console, transient=True, disable=not error_console.is_terminal)
    with connected(server, packs or [], device) as client, progress as bar:
        task = bar.add_task(f"{pack} plays", total=1.0)
        rendering = client.render(
            pack,
            change_rate(audio, rate, session_rate),
            session_rate,
            transport=transport,
            progress=lambda share: bar.update(task, completed=share),
            **wanted,
        )
    for warning in rendering.warnings.values():
        error_console.print(labelled("warning", warning.message, "yellow"), soft_wrap=True)
    for port, path in files.paths(list(rendering)).items():
        played = rendering[port]
        write_audio(path, change_rate(played, session_rate, rate, audio.shape[1]), rate)
        console.print(f"{path}: {audio.shape[1] / rate:.1f} s, {played.shape[0]} channels at {rate} Hz")
    console.print(f"seed {rendering.ready.seed}")
