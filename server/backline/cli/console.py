"""How commands speak: the terminal, and errors as one line that names the cause and the remedy."""

from __future__ import annotations

from rich.console import Console

console = Console()
error_console = Console(stderr=True)


class UserError(Exception):
    """Something that whoever typed the command can put right; the message says how."""


def explanation(error: Exception) -> str | None:
    """What to print instead of a traceback; None: the error is ours, and the traceback is wanted."""
    from backline_client import BacklineError

    from backline.models.errors import PackError
    from backline.packs.registry import PackNotFound

    if isinstance(error, (UserError, BacklineError, PackError, PackNotFound)):
        return str(error)
    if isinstance(error, OSError):
        return str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
    return None
