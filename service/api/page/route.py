"""GET / and the files that the page there is made of."""

from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"

# Not one byte from elsewhere, nor any script but ours: what a model says cannot become one.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # ask each time whether it has changed, which costs little
}

# path -> file
FILES = {"/" if file.name == INDEX else f"/page/{file.name}": file for file in sorted(STATIC.iterdir())}


def add_page(app: web.Application) -> None:
    """Serve the page."""
    for path in FILES:
        app.router.add_get(path, _serve)


async def _serve(request: web.Request) -> web.FileResponse:
    return web.FileResponse(FILES[request.path], headers=HEADERS)
