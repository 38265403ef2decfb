"""The dashboard: a folder of static files, and one HTML page that serves every view.

The rule: the page finds its files and the API through `<base href>`, which leads from the
page's path back to /ui/. So it works at any depth and under any prefix.
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
from goflow.web.endpoint import Call, Endpoint, Handler

BASE = b'<base href="./" />'
FOREVER = "public, max-age=31536000, immutable"
REVALIDATE = "no-cache"
# Vite's file names: assets/name-hash.ext. The digit tells a hash from a plain word.
_HASHED = re.compile(r"assets/.+-(?=[\w-]*[0-9])[\w-]{8,}\.\w+", re.ASCII)

# A custom dashboard also has these folders at the root, as in Go's goflow.
ROOT_FOLDERS = ("css", "dist", "src")

NOT_BUILT = """\
The dashboard has not been built. In a source checkout, run `make ui` and restart the server.
The API is available: see /api/health and /openapi.json.
"""
NO_DASHBOARD = "this server has no dashboard; its API is described at /openapi.json"
NO_FILE = "the dashboard has no such file"
NO_PAGE = """\
The dashboard's folder (ui_path) had no index.html when the server started.
The API is available: see /api/health and /openapi.json.
"""


class Dashboard:
    """Serves the folder `ui` below /ui/; with None there is no dashboard.

    `policy` is the Content-Security-Policy of a custom dashboard. It is None for the bundled one,
    which works with the policy of all other responses.
    """

    def __init__(self, ui: Path | None, policy: str | None = None) -> None:
        self._page: tuple[bytes, bytes, bytes] | None = None
        self._files: _Files | None = None
        self._exists = ui is not None
        self._policy = policy
        if ui is not None and (index := ui / "index.html").is_file():
            self._page = index.read_bytes().partition(BASE)
            self._files = _Files(directory=ui)

    def endpoints(self) -> list[Endpoint]:
        """The pages; they are not part of the OpenAPI document."""
        roots = ROOT_FOLDERS if self._is_custom else ()
        return [
            _page("/", "Redirects to the dashboard", self._redirect),
            _page("/ui", "Redirects to the dashboard", self._redirect),
            _page("/ui/{view:path}", "The dashboard", self._view),
            *(_page(f"/{name}/{{file:path}}", "A file of it", self._file) for name in roots),
        ]

    @property
    def _is_custom(self) -> bool:
        return self._policy is not None

    async def _redirect(self, call: Call) -> Response:
        """To /ui/. The location is relative, since a proxy may strip a path prefix."""
        if not self._exists:
            raise NotFound(NO_DASHBOARD)
        return RedirectResponse("./ui/")

    async def _view(self, call: Call) -> Response:
        """The file at the path if there is one, else the page."""
        if not self._exists:
            raise NotFound(NO_DASHBOARD)
        if self._page is None or self._files is None:
            return PlainTextResponse(NO_PAGE if self._is_custom else NOT_BUILT, 404)
        encoded = call.request.scope["path"].removeprefix("/ui/")
        found = None
        if encoded and not encoded.startswith("jobs/"):
            found = await self._find(self._files, encoded, call)
        return self._with_policy(found or self._index(depth=encoded.count("/")))

    async def _file(self, call: Call) -> Response:
        """A file in one of `ROOT_FOLDERS`."""
        found = None
        if self._files is not None:
            found = await self._find(self._files, call.request.scope["path"].lstrip("/"), call)
        if found is None:
            raise NotFound(NO_FILE)
        return self._with_policy(found)

    async def _find(self, files: "_Files", encoded: str, call: Call) -> Response | None:
        """The file at an encoded path, None if there is none and the path may be a view's."""
        # `..` is resolved first: the check is for the target of the path.
        name = posixpath.normpath(unquote(encoded))
        if is_hidden(name):
            raise NotFound(NO_FILE)
        try:
            found = await files.get_response(name, call.request.scope)
        except HTTPException:
            if name.split("/")[0] == "assets":
                raise NotFound(NO_FILE) from None
            return None
        found.headers["cache-control"] = FOREVER if _HASHED.fullmatch(name) else REVALIDATE
        return found

    def _with_policy(self, response: Response) -> Response:
        if self._policy is not None:
            response.headers["content-security-policy"] = self._policy
        return response

    def _index(self, depth: int) -> Response:
        assert self._page is not None
        head, base, tail = self._page
        if base:
            head += b'<base href="%b">' % (b"../" * depth or b"./")
        return Response(
            head + tail,
            headers={"cache-control": REVALIDATE},
            media_type="text/html; charset=utf-8",
        )


def _page(path: str, summary: str, handler: Handler) -> Endpoint:
    return Endpoint(method="GET", path=path, summary=summary, handler=handler, response="text/html")


class _Files(StaticFiles):
    """Readable files that are not hidden. Links are followed inside the folder."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        try:
            return await super().get_response(path, scope)
        except RuntimeError:  # no thread is available, so the event loop reads the file
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
        except OSError:  # a link loop, a name too long, a folder without access
            return nothing
        if status is None or not os.access(found, os.R_OK):
            return nothing
        assert self.directory is not None
        inside = os.path.relpath(found, os.path.realpath(self.directory))
        return nothing if is_hidden(inside) else (found, status)


def is_hidden(path: str) -> bool:
    """Whether a path leaves its folder, or names a hidden file or an editor's backup file."""
    return any(
        (part.startswith(".") and part != ".")
        or part.endswith("~")
        or (part.startswith("#") and part.endswith("#"))
        for part in path.split("/")
    )
