"""`backline render`: a file in, one file per output of the model out, block by block however long they are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backline.cli import options
from backline.cli.option_groups import HERE, PLAIN, PlayOptions, ServerOptions, grouped


@grouped
def render(
    source: Annotated[
        Path | None, typer.Argument(metavar="[IN]", help="An audio file, of any rate, length and channels.")
    ] = None,
    *,
    output: Annotated[
        str,
        options.place_of("outputs"),
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
    at: ServerOptions = HERE,
    play: PlayOptions = PLAIN,
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
    credentials, parameters, transport, wanted = at.credentials(), play.parameters(), play.transport(), play.session()

    if (source is None) == (heard is None):
        raise typer.BadParameter("give one input: a file to play along with")
    source = heard if source is None else source
    assert source is not None
    if replay is not None:
        asked: dict[str, object] = {"--seed": play.seed, "--chunk": play.chunk, "--visibility": play.visibility}
        asked |= {"--set": parameters, "--text": play.texts, "--task": play.task, "--inputs": play.inputs}
        asked |= {"--tempo": play.tempo, "--clip": clip}
        if said := [name for name, value in asked.items() if value]:
            raise typer.BadParameter(f"{', '.join(said)}: stands in the log that is replayed; leave it out")
        play_again(replay, source, output, at)
        return

    if clip is not None:
        from backline.cli.whole_clip import WAYS, render_clip

        if clip not in WAYS:
            raise typer.BadParameter(f"there is no --clip {clip!r}: use {' or '.join(WAYS)}")
        if at.server is not None or play.chunk is not None or play.visibility is not None:
            raise typer.BadParameter("--clip has no session: leave --server, --chunk and --visibility out")
        place = options.pick_device(at.device)
        render_clip(source, output, pack, at.packs or [], place, clip, play.seed, parameters, transport)
        return

    from backline.cli.audio_files import at_rate, opened, served, served_rate
    from backline.cli.connection import connected
    from backline.cli.console import UserError, console, error_console, labelled, progress
    from backline.cli.takes import PortFiles, RenderedTakes, ended_in_order

    files = PortFiles.at(output)
    with (
        ended_in_order(),
        opened(source) as sound,
        connected(at.server, at.packs or [], at.device, credentials=credentials) as client,
        progress() as bar,
    ):
        rate = served_rate(sound.rate)
        channels, blocks = served(sound, client.pack(pack))
        blocks = at_rate(blocks, sound.rate, rate, channels)
        shown = bar.add_task(f"{pack} plays", total=sound.frames)
        with (
            client.render_blocks(pack, blocks, rate, channels, transport=transport, **wanted) as rendering,
            RenderedTakes.of(rendering, files, source, (rate, sound.rate), sound.most_frames) as takes,
        ):
            for block in rendering:
                takes.write(block.port, block.position, block.audio)
                bar.update(shown, completed=block.end * sound.rate / rate)
            if not sound.read_frames:
                raise UserError(sound.damage or f"{source} holds no samples: there is nothing to play along with")
            takes.keep(sound.read_frames)
    for warning in rendering.warnings.values():
        error_console.print(labelled("warning", warning.message, "yellow"), soft_wrap=True)
    takes.tell()
    console.print(f"seed {rendering.ready.seed}")
    if sound.damage:
        raise UserError(f"{sound.damage}; what was played to these has been written")


def play_again(replay: Path, source: Path, output: str, at: ServerOptions) -> None:
    """Renders what the session of a log played, and says whether its tokens are the same."""
    from backline.cli import replay as again
    from backline.cli.connection import connected
    from backline.cli.console import UserError, console, progress
    from backline.cli.paced import in_blocks
    from backline.cli.takes import PortFiles, RenderedTakes, ended_in_order
    from backline_client import Block, Frames

    log = again.opened_log(replay)
    audio, rate, files = again.played_audio(log, source), log.header.open.sample_rate, PortFiles.at(output)
    check, samples = again.TokenCheck(log), log.end.samples
    with (
        ended_in_order(),
        connected(at.server, at.packs or [], at.device, credentials=at.credentials()) as client,
        progress() as bar,
    ):
        again.check_pack(log, client)
        shown = bar.add_task(f"{log.header.pack} plays again", total=samples)
        blocks, changes = in_blocks(audio, rate), list(again.changes_of(log))
        with (
            client.render_blocks(
                log.header.pack, blocks, rate, audio.shape[0], changes=changes, **again.session_options(log)
            ) as rendering,
            RenderedTakes.of(rendering, files, source, (rate, rate), samples) as takes,
        ):
            for event in rendering.events():
                if isinstance(event, Block):
                    takes.write(event.port, event.position, event.audio)
                    bar.update(shown, completed=event.end)
                elif isinstance(event, Frames):
                    check.take(event)
            takes.keep(samples)
    takes.tell()
    if check.differs:
        raise UserError(
            f"the tokens are others than the session's {check.differs}: another machine, device or version of Backline"
        )
    if check.chunks:
        console.print(f"the same tokens as the session's: {check.frames} frames of {check.chunks} chunks")
    if log.end.late:
        console.print(f"the session had dropped {log.end.late} samples that came too late; here they are")
