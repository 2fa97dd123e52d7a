"""`backline render`: a file in, one file per output of the model out, block by block however long they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backline.cli import options


def render(
    source: Annotated[
        Path | None, typer.Argument(metavar="[IN]", help="An audio file, of any rate, length and channels.")
    ] = None,
    *,
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="Where to write; several outputs become OUT-<name>. A folder (ending in /) gets <name>.wav for each.",
        ),
    ],
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="LOG",
            help="Play a session again as it was, from its event log (`backline live --log`): the same tokens, and on "
            "one machine the same samples. What else a session is asked for stands in the log.",
        ),
    ] = None,
    heard: Annotated[
        Path | None, typer.Option("--input", metavar="IN", help="The same as IN: what the session of a log heard.")
    ] = None,
    pack: options.PackName = "default",
    server: options.Server = None,
    key_file: options.KeyFile = None,
    ca: options.Authority = None,
    client_cert: options.ClientCertificate = None,
    packs: options.PackFolders = None,
    device: options.Device = "auto",
    seed: options.Seed = None,
    chunk: options.Chunk = None,
    visibility: options.Visibility = None,
    guidance: options.Guidance = None,
    temperature: options.Temperature = None,
    settings: options.Settings = None,
    texts: options.Texts = None,
    task: options.Task = None,
    inputs: options.Inputs = None,
    tempo: options.Tempo = None,
    signature: options.Signature = "4/4",
    downbeat: options.Downbeat = 0.0,
    layout: options.Layout = options.ChannelLayout.AUTO,
    clip: Annotated[
        str | None,
        typer.Option(
            metavar="paper|sliding",
            help="Play as HAFM's paper does: the whole file as one clip, or a second after another, each at the end of "
            "a clip of the length that the stages were trained on. Only for packs with its stages.",
        ),
    ] = None,
) -> None:
    """Play along with a file. The output is exactly as long as the file, and replaces an older one when it is whole.

    Example: [cyan]backline render voice.wav -o band.wav --seed 7 --tempo 96[/]

    Into a folder: [cyan]backline render song.wav --pack stems -o stems/[/]

    A session again: [cyan]backline render --replay session.jsonl --input voice.wav -o band.wav[/]

    As HAFM's paper does: [cyan]backline render voice.wav -o band.wav --pack hafm --clip paper[/]
    """
    credentials = options.credentials(server, key_file, ca, client_cert)
    parameters = options.parse_settings(settings, guidance=guidance, temperature=temperature)
    transport = options.parse_transport(tempo, signature, downbeat)
    wanted = options.session_options(chunk, visibility, seed, parameters, layout, texts, task, inputs)

    if (source is None) == (heard is None):
        raise typer.BadParameter("give one input: a file to play along with")
    source = heard if source is None else source
    assert source is not None
    if replay is not None:
        asked: dict[str, object] = {"--seed": seed, "--chunk": chunk, "--visibility": visibility, "--set": parameters}
        asked |= {"--text": texts, "--task": task, "--inputs": inputs, "--tempo": tempo, "--clip": clip}
        if said := [name for name, value in asked.items() if value]:
            raise typer.BadParameter(f"{', '.join(said)}: stands in the log that is replayed; leave it out")
        play_again(replay, source, output, server, packs or [], device, credentials)
        return

    if clip is not None:
        from backline.cli.whole_clip import WAYS, render_clip

        if clip not in WAYS:
            raise typer.BadParameter(f"there is no --clip {clip!r}: use {' or '.join(WAYS)}")
        if server is not None or chunk is not None or visibility is not None:
            raise typer.BadParameter("--clip has no session: leave --server, --chunk and --visibility out")
        place = options.pick_device(device)
        render_clip(source, output, pack, packs or [], place, clip, seed, parameters, transport)
        return

    from rich.progress import Progress

    from backline.cli.audio_files import at_rate, opened, served, served_rate
    from backline.cli.connection import connected
    from backline.cli.console import UserError, console, error_console, labelled
    from backline.cli.takes import PortFiles, RenderedTakes, ended_in_order

    files = PortFiles.at(output)
    progress = Progress(console=error_console, transient=True, disable=not error_console.is_terminal)
    with (
        ended_in_order(),
        opened(source) as sound,
        connected(server, packs or [], device, credentials=credentials) as client,
        progress as bar,
    ):
        rate = served_rate(sound.rate)
        channels, blocks = served(sound, client.pack(pack))
        blocks = at_rate(blocks, sound.rate, rate, channels)
        shown = bar.add_task(f"{pack} plays", total=sound.frames)
        with client.render_blocks(pack, blocks, rate, channels, transport=transport, **wanted) as rendering:
            ports = {port.name: port.channels for port in rendering.ready.ports}
            paths = files.paths(list(ports), source)
            with RenderedTakes(paths, ports, (rate, sound.rate), sound.most_frames) as takes:
                for block in rendering:
                    takes.write(block.port, block.position, block.audio)
                    bar.update(shown, completed=block.end * sound.rate / rate)
                if not sound.read_frames:
                    raise UserError(sound.damage or f"{source} holds no samples: there is nothing to play along with")
                takes.keep(sound.read_frames)
    for warning in rendering.warnings.values():
        error_console.print(labelled("warning", warning.message, "yellow"), soft_wrap=True)
    for port, path in paths.items():
        console.print(
            f"{path}: {sound.read_frames / sound.rate:.1f} s, {ports[port]} channels at {sound.rate} Hz", soft_wrap=True
        )
    console.print(f"seed {rendering.ready.seed}")
    if sound.damage:
        raise UserError(f"{sound.damage}; what was played to these has been written")


def play_again(
    replay: Path,
    source: Path,
    output: str,
    server: str | None,
    packs: list[Path],
    device: str,
    credentials: options.Credentials,
) -> None:
    """Renders what the session of a log played, and says whether its tokens are the same."""
    from rich.progress import Progress

    from backline.cli import replay as again
    from backline.cli.connection import connected
    from backline.cli.console import UserError, console, error_console
    from backline.cli.paced import in_blocks
    from backline.cli.takes import PortFiles, RenderedTakes, ended_in_order
    from backline_client import Block, Frames

    log = again.opened_log(replay)
    audio, rate, files = again.played_audio(log, source), log.header.open.sample_rate, PortFiles.at(output)
    check, samples = again.TokenCheck(log), log.end.samples
    progress = Progress(console=error_console, transient=True, disable=not error_console.is_terminal)
    with (
        ended_in_order(),
        connected(server, packs, device, credentials=credentials) as client,
        progress as bar,
    ):
        again.check_pack(log, client)
        shown = bar.add_task(f"{log.header.pack} plays again", total=samples)
        blocks, changes = in_blocks(audio, rate), list(again.changes_of(log))
        with client.render_blocks(
            log.header.pack, blocks, rate, audio.shape[0], changes=changes, **again.session_options(log)
        ) as rendering:
            ports = {port.name: port.channels for port in rendering.ready.ports}
            paths = files.paths(list(ports), source)
            with RenderedTakes(paths, ports, (rate, rate), samples) as takes:
                for event in rendering.events():
                    if isinstance(event, Block):
                        takes.write(event.port, event.position, event.audio)
                        bar.update(shown, completed=event.end)
                    elif isinstance(event, Frames):
                        check.take(event)
                takes.keep(samples)
    for port, path in paths.items():
        console.print(f"{path}: {samples / rate:.1f} s, {ports[port]} channels at {rate} Hz", soft_wrap=True)
    if check.differs:
        raise UserError(
            f"the tokens are others than the session's {check.differs}: another machine, device or version of Backline"
        )
    if check.chunks:
        console.print(f"the same tokens as the session's: {check.frames} frames of {check.chunks} chunks")
    if log.end.late:
        console.print(f"the session had dropped {log.end.late} samples that came too late; here they are")
