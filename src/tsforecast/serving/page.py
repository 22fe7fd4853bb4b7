"""The page at `/ui`: static files that talk to the routes beside them, and to nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

FOLDER = Path(__file__).with_name("ui")
_INDEX = "index.html"
_KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # kept, and asked for again by its tag: another version is seen at once
}


def add_page(app: FastAPI) -> None:
    """Serve the files of `ui/` at `/ui` and `/ui/NAME`, all read now: no request names a path on the disk."""
    files = {file.name: file.read_bytes() for file in FOLDER.iterdir() if file.suffix in _KINDS}
    tags = {name: f'"{hashlib.sha256(content).hexdigest()[:32]}"' for name, content in files.items()}

    async def page(request: Request) -> Response:
        name = request.path_params.get("file", _INDEX)
        if name not in files or request.url.path.endswith(f"/{_INDEX}"):  # whose links are those of `/ui`
            raise HTTPException(404)
        headers = {**_HEADERS, "ETag": tags[name]}
        if tags[name] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        headers["Content-Length"] = str(len(files[name]))
        content = b"" if request.method == "HEAD" else files[name]
        return Response(content, headers=headers, media_type=_KINDS[Path(name).suffix])

    async def slash(_: Request) -> Response:
        return RedirectResponse("../ui")  # relative: a proxy may have put a prefix before it

    for path, endpoint in {"/ui": page, "/ui/": slash, "/ui/{file}": page}.items():
        app.add_route(path, endpoint, methods=["GET"], include_in_schema=False)
