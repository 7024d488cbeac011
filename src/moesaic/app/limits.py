"""What the server takes and keeps, in one place; docs/serve.md has the same table, which a test compares."""

from __future__ import annotations

from dataclasses import dataclass

MEGAPIXEL = 1_000_000
MINUTE, HOUR = 60, 3600  # s
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a server. Each verb has bounds of its own on pixels, see `verbs.py`."""

    body_bytes: int = 256 * MIB  # of one upload
    pixels: int = 128 * MEGAPIXEL  # of a picture that is looked at; verbs take less
    seconds: int = 15 * MINUTE  # of one job's work; then it is ended
    queue: int = 100  # jobs that wait, those that are being sent included
    keep_seconds: int = 2 * HOUR  # that a job is kept after it ended
    jobs: int = 2000  # kept at a time
    disk_bytes: int = 16 * GIB  # of all jobs
    memory_share: float = 0.75  # of the machine's memory, for all workers together
    idle_seconds: int = 30  # without a byte of an upload; then it is cut off
    upload_seconds: int = 15 * MINUTE  # of one upload
    reading_seconds: int = 2 * MINUTE  # in which a client reads nothing of its answer; then it is cut off
    connections: int = 300  # at a time; more are closed at once
    view_side: int = 2048  # px, of the pictures that the page shows
    tile_pixels: int = MEGAPIXEL * 2  # of one tile that the server draws
    tile_seconds: int = 20  # for drawing one tile
    tile_bytes: int = 2 * GIB  # of memory, for the process that draws tiles
    tiles: int = 32  # that wait to be drawn
    name_letters: int = 100  # of a file's name
    option_bytes: int = 4096  # of a job's options
