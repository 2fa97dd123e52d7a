"""The bounds on all that a client can push: every number that a stranger's message is held against stands here.

They lie far beyond what music needs, and low enough that sums of accepted numbers stay finite and exact, and that no
client can take memory or time which the others play by.
"""

from __future__ import annotations

from backline.engine.errors import BadInput

# ---- audio -------------------------------------------------------------------------------------------

RATES = (8_000, 192_000)  # Hz
MAXIMUM_CHANNELS = 64
MAXIMUM_BLOCK = 65_536  # samples of one channel

# ---- time --------------------------------------------------------------------------------------------

FURTHEST_SAMPLE = 2**53  # either side of 0: what a double counts without loss, at 192 kHz 1,500 years
LONGEST_JITTER_BUFFER = 60  # seconds
FURTHEST_QUARTER = 1e7  # quarter notes either side of 0: at 300 a minute 23 days

# ---- what may wait in a session ----------------------------------------------------------------------

PENDING_CHANGES = 65_536  # controls, transports and MIDI messages together
PENDING_MIDI_BYTES = 1 << 20
PENDING_JUMPS = 4_096  # transports, each of which may begin a take: every further one is held against all of them
PENDING_TEXTS = 64  # that are still to be prepared
PENDING_CODES = 1 << 20  # of codec frames that no chunk has taken
INPUT_BYTES = 64 << 20  # of the ring that holds its input; also three chunks of its output
UNREAD_BYTES = 16 << 20  # of output that its client has not taken; three chunks in any case
KEPT_BYTES = 16 << 20  # of messages that its client has not acknowledged, and may ask for again
PENDING_MARKERS = 1_024  # whose position has not been played
UNSENT_EVENTS = 4_096  # that its client has not taken: beyond, nothing more is read of it

# ---- messages ----------------------------------------------------------------------------------------

TEXT_BYTES = 512  # in UTF-8: a prompt is a sentence
MIDI_BYTES = 8_192  # a message: all notes of all channels switched off take 6,144
NAME_BYTES = 256  # of a client, a pack, a parameter, a session
ECHOED = 60  # characters of a client's text that a message repeats
STATUS_BYTES = 4_096  # of a status message on the wire: HTTP/2 headers of more than 8,192 are refused
OTHER_BYTES = 65_536  # a message that carries no audio
# The largest block and what goes with it. A session's own block is smaller as a rule, so its message names the limit.
MESSAGE_BYTES = MAXIMUM_CHANNELS * MAXIMUM_BLOCK * 4 + OTHER_BYTES


def quoted(text: str) -> str:
    """A client's text for a message: in quotes, and not longer than a name is."""
    return repr(text if len(text) <= ECHOED else text[:ECHOED] + "…")


def findable(name: str) -> str:
    """A name to look for: cut where it is longer than anything is called, so that an answer can repeat it."""
    return name if len(name) <= NAME_BYTES else name[:ECHOED] + "…"


def check_name(text: str, what: str) -> None:
    """Refuses a name that nobody would give.

    Raises:
        BadInput: it is longer than NAME_BYTES.
    """
    if len(text) > NAME_BYTES or len(text.encode()) > NAME_BYTES:
        raise BadInput(f"{what} {quoted(text)} is {len(text.encode())} bytes long: use at most {NAME_BYTES}")


def check_sample(position: int, what: str) -> None:
    """Refuses a sample position that no session reaches; `what` has it.

    Raises:
        BadInput: it lies beyond FURTHEST_SAMPLE.
    """
    if not -FURTHEST_SAMPLE <= position <= FURTHEST_SAMPLE:
        raise BadInput(f"{what} at position {position}: use -2^53 to 2^53 samples")


def check_quarters(position: float, what: str) -> None:
    """Refuses a song position that no song reaches; `what` has it.

    Raises:
        BadInput: it lies beyond FURTHEST_QUARTER, or is no number.
    """
    if not -FURTHEST_QUARTER <= position <= FURTHEST_QUARTER:  # true for NaN, too
        raise BadInput(f"{what} {position:g}: use -1e7 to 1e7 quarter notes")
