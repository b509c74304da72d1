"""GET / and the files of the page there."""

from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent / "static"
INDEX = "index.html"

# The page loads nothing from other sites and runs no script but its own: what a model says cannot become one.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",  # the browser asks each time whether it has changed, which costs little
}

# path -> file; browsers that show another answer than the page ask for an icon by its old name
FILES = {
    "/favicon.ico": STATIC / "icon.svg",
    **{"/" if file.name == INDEX else f"/page/{file.name}": file for file in sorted(STATIC.iterdir())},
}


def add_page(app: web.Application) -> None:
    """Add the page's routes."""
    for path in FILES:
        app.router.add_get(path, _serve)


async def _serve(request: web.Request) -> web.FileResponse:
    return web.FileResponse(FILES[request.path], headers=HEADERS)
