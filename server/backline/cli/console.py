"""How commands speak: the terminal, and errors as one line that names the cause and the remedy."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

# No markup and no emoji: what is printed holds paths and messages, where [brackets] and :colons: mean themselves.
console = Console(markup=False, emoji=False, highlight=False)
error_console = Console(markup=False, emoji=False, highlight=False, stderr=True)


def labelled(label: str, text: str, style: str) -> Text:
    """`label: text`, the label in its style."""
    return Text.assemble((f"{label}:", style), " ", text)


class UserError(Exception):
    """Something that whoever typed the command can put right; the message says how."""


def explanation(error: Exception) -> str | None:
    """What to print instead of a traceback; None: the error is ours, and the traceback is wanted."""
    from backline.corpus.labels import ToolMissing
    from backline.corpus.manifest import CorpusError
    from backline.ffmpeg import NoSound
    from backline.models.errors import PackError
    from backline.music.fluidsynth import FluidSynthMissing
    from backline.music.kits import KitsMissing
    from backline.music.speakers import VoicesMissing
    from backline.music.tunes import TunesMissing
    from backline.packs.registry import PackNotFound
    from backline_client import BacklineError, TokenFileError

    told = (UserError, NoSound, CorpusError, BacklineError, PackError, PackNotFound, TokenFileError)
    missing = (FluidSynthMissing, VoicesMissing, KitsMissing, TunesMissing, ToolMissing)
    if isinstance(error, told + missing):
        return str(error)
    if isinstance(error, OSError):
        return str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
    return None
