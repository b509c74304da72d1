"""The files of the page: they need no key, load nothing from other sites, and are all served."""

import re

import pytest

from service.api.page.route import FILES, STATIC

SCRIPTS = sorted(STATIC.glob("*.js"))


@pytest.mark.parametrize("path", FILES)
async def test_a_file_needs_no_key_and_may_load_nothing_from_elsewhere(serve, tenants, path):
    live = await serve(keys=tenants.keys())
    response = await live.http.get(path)
    assert (response.status, await response.read()) == (200, FILES[path].read_bytes())
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert ("javascript" in response.content_type) is path.endswith(".js")


async def test_a_file_that_has_not_changed_is_not_sent_again(live):
    first = await live.http.get("/")
    again = await live.http.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status, await again.read()) == (304, b"")


async def test_there_are_no_other_files(live):
    for path in ("/page/", "/page/none.js", "/page/../route.py", "/page/%2e%2e/route.py"):
        assert (await live.http.get(path)).status == 404


def test_the_page_names_only_files_that_are_there():
    for file in (STATIC / "index.html", *SCRIPTS):
        for name in re.findall(r'(?:"/page/|from "\./)([\w.]+)"', file.read_text(encoding="utf-8")):
            assert (STATIC / name).is_file(), f"{file.name}: {name}"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_no_script_makes_html_out_of_text(script):
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", script.read_text())
