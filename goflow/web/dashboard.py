"""The dashboard: a folder of static files, and one page that is every view of it.

The rule: the page finds its files and the API through `<base href>`, which leads from the
page's own path back to /ui/. So it works at any depth, and under any prefix.
"""

import mimetypes
import os
import posixpath
import re
import stat
from pathlib import Path
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from goflow.errors import NotFound
from goflow.web.endpoint import Call

BASE = b'<base href="./" />'
FOREVER = "public, max-age=31536000, immutable"
ASK = "no-cache"
# As Vite names files: assets/name-hash.ext. A hash has a digit; a mere word may have none.
_HASHED = re.compile(r"assets/.+-(?=[\w-]*[0-9])[\w-]{8,}\.\w+", re.ASCII)

# Besides /ui/, where a folder of one's own is served: Go's goflow has these at the root.
OWN_FOLDERS = ("css", "dist", "src")

NOT_BUILT = """\
The dashboard has not been built. In a source checkout, run `make ui`; then start again.
The API is served all the same: see /api/health and /openapi.json.
"""
NO_PAGE = """\
The folder of the dashboard (ui_path) had no index.html when the server started.
The API is served all the same: see /api/health and /openapi.json.
"""


class Dashboard:
    """Answers everything below /ui/ from the folder `ui`; with None there is no dashboard.

    `policy` is the Content-Security-Policy of a folder of one's own; None for ours, which needs
    no other than all answers have.
    """

    def __init__(self, ui: Path | None, policy: str | None = None) -> None:
        self._page: tuple[bytes, bytes, bytes] | None = None
        self._files: _Files | None = None
        self._exists = ui is not None
        self._policy = policy
        if ui is not None and (index := ui / "index.html").is_file():
            self._page = index.read_bytes().partition(BASE)
            self._files = _Files(directory=ui)

    @property
    def is_own(self) -> bool:
        """Whether it is a folder of the user's."""
        return self._policy is not None

    async def to_ui(self, call: Call) -> Response:
        """From / and /ui to /ui/, as a relative reference: a proxy may hide a prefix."""
        if not self._exists:
            raise NotFound("this server has no dashboard; its API is at /openapi.json")
        return RedirectResponse("./ui/")

    async def view(self, call: Call) -> Response:
        """A file of the folder if there is one of that name, else the page."""
        if not self._exists:
            raise NotFound("this server has no dashboard; its API is at /openapi.json")
        if self._page is None or self._files is None:
            return PlainTextResponse(NO_PAGE if self.is_own else NOT_BUILT, 404)
        encoded = call.request.scope["path"].removeprefix("/ui/")
        found = None
        if encoded and not encoded.startswith("jobs/"):
            found = await self._find(self._files, encoded, call)
        return self._own(found or self._index(depth=encoded.count("/")))

    async def file(self, call: Call) -> Response:
        """A file of one of `OWN_FOLDERS`."""
        found = None
        if self._files is not None:
            found = await self._find(self._files, call.request.scope["path"].lstrip("/"), call)
        if found is None:
            raise NotFound("the dashboard has no such file")
        return self._own(found)

    async def _find(self, files: "_Files", encoded: str, call: Call) -> Response | None:
        """The file at a path as it was sent, None if there is none and it may be a view's."""
        # What a path leads to counts, not what it begins with.
        name = posixpath.normpath(unquote(encoded))
        if is_hidden(name):
            raise NotFound("the dashboard has no such file")
        try:
            found = await files.get_response(name, call.request.scope)
        except HTTPException:
            if name.split("/")[0] == "assets":
                raise NotFound("the dashboard has no such file") from None
            return None
        found.headers["cache-control"] = FOREVER if _HASHED.fullmatch(name) else ASK
        return found

    def _own(self, answer: Response) -> Response:
        if self._policy is not None:
            answer.headers["content-security-policy"] = self._policy
        return answer

    def _index(self, depth: int) -> Response:
        assert self._page is not None
        head, base, tail = self._page
        if base:
            head += b'<base href="%b">' % (b"../" * depth or b"./")
        return Response(
            head + tail, headers={"cache-control": ASK}, media_type="text/html; charset=utf-8"
        )


class _Files(StaticFiles):
    """Files that may be read, and are not hidden, wherever links lead inside the folder."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except RuntimeError:  # no thread can be had to read it in: the event loop waits for it
            return self._read(path)

    def _read(self, path: str) -> Response:
        found, status = self.lookup_path(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            raise HTTPException(404)
        return Response(Path(found).read_bytes(), media_type=mimetypes.guess_type(found)[0])

    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        nothing = "", None
        try:
            found, status = super().lookup_path(path)
        except OSError:  # a loop of links, a name too long, a folder that may not be entered
            return nothing
        if status is None or not os.access(found, os.R_OK):
            return nothing
        assert self.directory is not None
        inside = os.path.relpath(found, os.path.realpath(self.directory))
        return nothing if is_hidden(inside) else (found, status)


def is_hidden(path: str) -> bool:
    """Whether a path leads out of its folder, or to what is not meant for the public: names that
    begin with a dot, and what editors leave behind."""
    return any(
        (part.startswith(".") and part != ".")
        or part.endswith("~")
        or (part.startswith("#") and part.endswith("#"))
        for part in path.split("/")
    )
