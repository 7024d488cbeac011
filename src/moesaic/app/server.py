"""The server: the page, its files, and the calls that the page makes."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException

import moesaic
from moesaic.app.desk import BusyError, Desk
from moesaic.app.drawing import Tile, Tiles
from moesaic.app.guard import Guard
from moesaic.app.jobs import ID, Job, Store
from moesaic.app.limits import Limits
from moesaic.app.sentences import FULL, is_full, sentence
from moesaic.app.uploads import as_chosen, clean_name, look_at
from moesaic.app.verbs import VERBS, Asked
from moesaic.app.workplace import workplace
from moesaic.errors import ArgumentError, MoesaicError
from moesaic.mixture.backends.threads import default_threads

STATIC = Path(__file__).with_name("static")
_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
_TYPE_OF = {
    **dict.fromkeys(("before", "after", "explain", "overlay"), "image/webp"),
    "legend": "application/json",
}
_DRAWN_LATER = ("explain", "overlay", "legend")
_GONE = "This picture has just been deleted. Send it again."
_LATER = "This is still being made; ask again in a moment."


class RefusalError(Exception):
    """An answer that says no, in a sentence."""

    def __init__(self, status: int, text: str, wait: int | None = None) -> None:
        super().__init__(text)
        self.status, self.wait = status, wait


def create_app(
    *,
    folder: Path | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
    hosts: Collection[str] = (),
) -> FastAPI:
    """The server as an ASGI application; its workers live from its start to its end.

    Args:
        folder: for the jobs; those that an earlier server left there are taken up again. Whoever names one sees to it
            that it is this server's alone (see `workplace`). A temporary one unless given.
        workers: processes that work at a time; one for each two processors unless given.
        limits: what it takes and keeps.
        hosts: names by which it may be called, beside `localhost` and addresses in figures.

    Raises:
        ArgumentError: there are to be no workers.
    """
    if workers is not None and workers < 1:
        raise ArgumentError(f"workers is a number above 0, not {workers}")
    bounds = limits or Limits()
    state = _State(bounds)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        count = workers or max(1, default_threads() // 2)
        with nullcontext(folder) if folder is not None else workplace(None) as place:
            state.desk = app.state.desk = await asyncio.to_thread(lambda: Desk(Store(place / "jobs"), bounds, count))
            state.tiles = Tiles(bounds, max(1, default_threads() // 2))
            try:
                yield
            finally:
                await asyncio.to_thread(state.tiles.stop)
                await asyncio.to_thread(state.desk.stop)

    app = FastAPI(title="moesaic", lifespan=life, openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(Guard, limits=bounds, hosts=hosts)
    _add_errors(app)
    _add_page(app)
    _add_jobs(app, state)
    _add_files(app, state)
    return app


class _State:
    """What the calls share."""

    desk: Desk
    tiles: Tiles

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def job(self, identity: str) -> Job:
        """A job by its id, which is all that anybody needs to have it.

        Raises:
            RefusalError: there is none.
        """
        job = self.desk.find(identity) if ID.fullmatch(identity) else None
        if job is not None:
            return job
        if self.desk.was_here(identity):
            raise RefusalError(
                410, "This picture has been deleted, as pictures are kept for a while only. Send it again."
            )
        raise RefusalError(404, "There is no such picture here, or it has been deleted. Send it again.")

    def file(self, job: Job, name: str) -> Path:
        """A file of a finished job.

        Raises:
            RefusalError: the job is not done, or has no such file.
        """
        if not job.is_over:
            raise RefusalError(409, _LATER)
        path = self.desk.store.path(job) / name
        if job.state != "done" or not path.is_file():
            raise RefusalError(404, "There is no such result of this picture.")
        return path


def _add_errors(app: FastAPI) -> None:
    """Whatever goes wrong, the client gets a sentence and never a traceback."""

    @app.exception_handler(RefusalError)
    async def refused(_: Request, refusal: RefusalError) -> Response:
        headers = {} if refusal.wait is None else {"Retry-After": str(refusal.wait)}
        return JSONResponse({"error": str(refusal)}, refusal.status, headers)

    @app.exception_handler(HTTPException)
    async def unknown(_: Request, error: HTTPException) -> Response:
        told = {404: "There is nothing at this address.", 405: "This address does not take such requests."}
        return JSONResponse({"error": told.get(error.status_code, "The request could not be read.")}, error.status_code)


def _add_page(app: FastAPI) -> None:
    files = {path.name: path for path in sorted(STATIC.iterdir()) if path.suffix in _TYPES}

    def served(name: str) -> Response:
        path = files.get(name)  # so no path is ever made of what a client sent
        if path is None:
            raise RefusalError(404, "There is nothing at this address.")
        return FileResponse(path, media_type=_TYPES[path.suffix], headers={"Cache-Control": "no-cache"})

    @app.get("/")
    async def page() -> Response:
        return served("index.html")

    @app.get("/favicon.ico")
    async def mark() -> Response:
        return served("mark.svg")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        return served(name)


def _add_jobs(app: FastAPI, state: _State) -> None:
    @app.get("/api/about")
    async def about() -> dict[str, Any]:
        sample = STATIC / "sample.jpg"
        return {
            "version": moesaic.__version__,
            "limits": asdict(state.limits),
            "verbs": [verb.told() for verb in VERBS.values()],
            **({"sample": {"name": "sample.jpg", "url": "/static/sample.jpg"}} if sample.is_file() else {}),
        }

    @app.post("/api/jobs")
    async def begin(request: Request) -> Response:
        try:
            with state.desk.place(int(request.headers.get("content-length", state.limits.body_bytes))):
                job = await _taken(request, state)
        except BusyError as busy:
            async for _ in request.stream():  # read and forgotten, so that the browser is ready for the answer
                pass
            raise RefusalError(429, str(busy), busy.wait) from busy
        except (OSError, ArgumentError) as error:
            if not is_full(error):
                raise
            raise RefusalError(503, FULL, 60) from error
        told = state.desk.told(job)
        return JSONResponse(told, 201, {"Location": f"/api/jobs/{job.id}"})

    @app.get("/api/jobs/{identity}")
    async def look(identity: str) -> dict[str, Any]:
        return state.desk.told(state.job(identity))

    @app.delete("/api/jobs/{identity}")
    async def cancel(identity: str) -> Response:
        job = state.job(identity)
        await asyncio.to_thread(state.desk.cancel, job)
        return Response(status_code=204)


async def _taken(request: Request, state: _State) -> Job:
    """The job that a request asks for, in the queue."""
    try:
        form = await request.form(max_files=1, max_fields=8, max_part_size=state.limits.option_bytes)
    except (MultiPartException, HTTPException, ValueError) as cause:
        raise RefusalError(400, "The request could not be read. Reload the page and try again.") from cause
    async with _closed(form):
        if "verb" not in form:
            raise RefusalError(400, "The request could not be read. Reload the page and try again.")
        try:
            asked = Asked.read(form.get("verb"), _parsed(form.get("options"), "options"))
        except ArgumentError as error:
            raise RefusalError(422, sentence(error)) from error
        picture, earlier = form.get("picture"), form.get("from")
        if isinstance(picture, UploadFile):
            return await asyncio.to_thread(_settled, state, asked, as_chosen(picture.filename or ""), picture.file)
        if isinstance(earlier, str):
            return await asyncio.to_thread(_again, state, asked, _parsed(earlier, "from"))
        raise RefusalError(400, "There is no picture in the request. Choose one and try again.")


@asynccontextmanager
async def _closed(form: Any) -> AsyncIterator[None]:
    """Within this the files of a form are open."""
    try:
        yield
    finally:
        await form.close()


def _parsed(text: Any, what: str) -> Any:
    if text is None:
        return {}
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as cause:
        raise RefusalError(400, f"The request's {what} could not be read. Reload the page and try again.") from cause


def _again(state: _State, asked: Asked, earlier: Any) -> Job:
    """Go on with a picture that is here."""
    which = earlier.get("which") if isinstance(earlier, dict) else None
    if which not in ("input", "result"):
        raise RefusalError(400, "The request's from could not be read. Reload the page and try again.")
    job = state.job(str(earlier.get("job")))
    path = state.desk.store.path(job) / ("input" if which == "input" else "result-all")
    if which == "result":
        state.file(job, "result")
        path = path if path.is_file() else path.with_name("result")
    name = job.name if which == "input" else (job.result or {}).get("name", job.name)
    try:
        return _settled(state, asked, name, path)
    except FileNotFoundError:
        raise RefusalError(410, _GONE) from None


def _settled(state: _State, asked: Asked, name: str, given: BinaryIO | Path) -> Job:
    """A job of what was sent: looked at before it takes a place in the queue."""
    identity, new = state.desk.store.begin()
    try:
        _put(given, new / "input")
        try:
            found = look_at(new / "input", state.limits)
        except MoesaicError as error:
            raise RefusalError(415, sentence(error)) from error
        if found["kind"] not in asked.verb.accepts:
            what = "a .moe file" if found["kind"] == "moe" else "a picture"
            raise RefusalError(422, f"{asked.verb.label!r} does not take {what}. Choose something else to do with it.")
        try:
            asked.verb.refuse_size(found["width"], found["height"], asked.options)
        except ArgumentError as error:
            raise RefusalError(413, sentence(error)) from error
        job = Job(
            id=identity,
            verb=asked.verb.name,
            options=dict(asked.options),
            name=clean_name(name, state.limits),
            input=found,
            made=time.time(),
        )
        state.desk.take(job)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return job


def _put(given: BinaryIO | Path, place: Path) -> None:
    """What was sent, or a file of another job: that is shared, as no file of a job is ever changed."""
    if isinstance(given, Path):
        with suppress(OSError):  # where the disk knows no links, or the file has gone
            place.hardlink_to(given)
            return
    with given.open("rb") if isinstance(given, Path) else nullcontext(given) as file, place.open("wb") as copy:
        shutil.copyfileobj(file, copy, 2**20)


def _sent(path: Path, kind: str, headers: Mapping[str, str] | None = None) -> Response:
    """A file of a job, whole even where the job is removed while it is sent."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise RefusalError(410, _GONE) from None
    length = str(os.fstat(file.fileno()).st_size)
    return StreamingResponse(_parts(file), media_type=kind, headers={"Content-Length": length, **(headers or {})})


def _parts(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while part := file.read(2**18):
            yield part


def _add_files(app: FastAPI, state: _State) -> None:
    @app.get("/api/jobs/{identity}/result")
    async def result(identity: str, metadata: str = "0") -> Response:
        job = state.job(identity)
        path = state.file(job, "result")
        with_all = path.with_name("result-all")
        if metadata == "1" and with_all.is_file():
            path = with_all
        name = (job.result or {})["name"]
        kind = "application/octet-stream" if name.endswith(".moe") else "image/png"
        plain = "".join(letter if letter.isascii() and letter not in '"\\%;' else "_" for letter in name)
        told = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
        return _sent(path, kind, {"Content-Disposition": told})

    @app.get("/api/jobs/{identity}/view/{which}")
    async def view(identity: str, which: str) -> Response:
        job = state.job(identity)
        if which not in _TYPE_OF or (job.result is not None and which not in job.result["views"]):
            raise RefusalError(404, "There is no such view of this picture.")
        if which in _DRAWN_LATER and job.state == "done" and job.explained is None:
            path = state.desk.store.path(job) / which
            if not path.is_file():
                return JSONResponse({"error": _LATER}, 202)
        return _sent(state.file(job, which), _TYPE_OF[which])

    @app.get("/api/jobs/{identity}/kernels")
    async def kernels(identity: str) -> Response:
        return _sent(state.file(state.job(identity), "kernels"), "application/octet-stream")

    @app.get("/api/jobs/{identity}/tile")
    async def tile(identity: str, request: Request) -> Response:
        job = state.job(identity)
        state.file(job, "kernels")
        path = state.file(job, "result" if job.verb == "encode" else "input")
        given = request.query_params
        try:
            left, top, right, bottom = (float(given[side]) for side in ("left", "top", "right", "bottom"))
            size = int(given["width"]), int(given["height"])
        except (KeyError, ValueError) as cause:
            raise RefusalError(400, "A tile has numbers for left, top, right, bottom, width and height.") from cause
        right_way = all(map(math.isfinite, (left, top, right, bottom))) and left < right and top < bottom
        if not right_way or min(size) < 1 or size[0] * size[1] > state.limits.tile_pixels:
            raise RefusalError(
                422, f"A tile is a part of the picture, drawn with at most {state.limits.tile_pixels:,} pixels."
            )
        try:
            drawn = state.tiles.drawn(Tile(path, (left, top, right, bottom), size))
            if drawn is None:
                raise RefusalError(429, "Many parts are being drawn just now. Try again in a moment.", 2)
            data = await asyncio.wrap_future(drawn)
        except MoesaicError as error:
            raise RefusalError(422, sentence(error)) from error
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=600"})
