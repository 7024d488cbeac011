"""What went wrong, as a sentence for people, without what is for programs or for the server's owner."""

from __future__ import annotations

import errno

from moesaic.errors import MoesaicError

FULL = "The server's disk is full. Try again later."
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def sentence(error: MoesaicError) -> str:
    """The text of an error as a sentence."""
    text = str(error).partition(": pass Limits(")[0].strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def is_full(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, is that of a disk without room."""
    causes = (error, error.__cause__)
    return any(isinstance(one, OSError) and one.errno in _FULL for one in causes)
