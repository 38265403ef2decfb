"""The dashboard: a folder of static files, and one page that is every view of it.

The rule: the page finds its files and the API through `<base href>`, which leads from the
page's own path back to /ui/. So it works at any depth, and under any prefix.
"""

from pathlib import Path
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from goflow.errors import NotFound
from goflow.web.endpoint import Call

BASE = b'<base href="./" />'
FOREVER = "public, max-age=31536000, immutable"  # the names in assets/ have a hash in them
ASK = "no-cache"

NOT_BUILT = """\
The dashboard has not been built. In a source checkout, run `make ui`; then start again.
The API is served all the same: see /api/health and /openapi.json.
"""


class Dashboard:
    """Answers everything below /ui/ from the folder `ui`; with None there is no dashboard."""

    def __init__(self, ui: Path | None) -> None:
        self._page: tuple[bytes, bytes, bytes] | None = None
        self._files: StaticFiles | None = None
        self._exists = ui is not None
        if ui is not None and (index := ui / "index.html").is_file():
            self._page = index.read_bytes().partition(BASE)
            self._files = StaticFiles(directory=ui)

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
            return PlainTextResponse(NOT_BUILT, 404)
        encoded = call.request.scope["path"].removeprefix("/ui/")
        if encoded and not encoded.startswith("jobs/"):
            try:
                found = await self._files.get_response(unquote(encoded), call.request.scope)
            except HTTPException:
                if encoded.startswith("assets/"):
                    raise NotFound("the dashboard has no such file") from None
            else:
                hashed = encoded.startswith("assets/")
                found.headers["cache-control"] = FOREVER if hashed else ASK
                return found
        return self._index(depth=encoded.count("/"))

    def _index(self, depth: int) -> Response:
        assert self._page is not None
        head, base, tail = self._page
        if base:
            head += b'<base href="%b">' % (b"../" * depth or b"./")
        return Response(
            head + tail, headers={"cache-control": ASK}, media_type="text/html; charset=utf-8"
        )
