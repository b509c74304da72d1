"""Who may import whom. The table is the one in ARCHITECTURE.md."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("allocator", "kernels", "service", "clients")

# room -> the rooms it may import; a room is the longest prefix of a module's name that stands here
MAY_IMPORT: dict[str, set[str]] = {
    "allocator": set(),
    "kernels": set(),
    "clients": {"clients.files", "clients.report", "clients.trace", "clients.workload"},
    "clients.trace": set(),
    "clients.files": set(),
    "clients.report": {"clients.files"},
    "clients.workload": {"clients.trace"},
    "service.errors": set(),
    "service.core": {"allocator", "service.errors"},
    "service.execution": {"allocator", "kernels", "service.core", "service.errors"},
    "service.simulation": {"allocator", "service.core"},
    "service.device": {"service.core"},
    "service.engine": {"service.core", "service.device", "service.execution", "service.errors"},
    "service.telemetry": {"clients.trace", "service.core", "service.engine", "service.errors"},
    "service.config": {"service.core", "service.errors"},
    "service.machine": set(),
    "service.api": {
        "service.core",
        "service.execution",
        "service.engine",
        "service.errors",
        "service.config",
        "service.telemetry",
    },
    "service.cli": {"allocator", "kernels", "clients", "service"},
    "service": set(),
}
FORBIDDEN_IN_DECISIONS = {
    "asyncio",
    "threading",
    "time",
    "cupy",
    "aiohttp",
    "json",
    "msgpack",
    "structlog",
    "numpy",
    "socket",
}


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(name: str) -> str:
    return max((r for r in MAY_IMPORT if name == r or name.startswith(r + ".")), key=len)


def test_every_arrow_is_there_for_an_import() -> None:
    imported: dict[str, set[str]] = {}
    for name, path in modules():
        imported.setdefault(room(name), set()).update(imports(path))
    idle = {
        (here, target)
        for here, allowed in MAY_IMPORT.items()
        for target in allowed
        if not any(f"{each}.".startswith(f"{target}.") for each in imported[here])
    }
    assert idle == set()


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda value: value if isinstance(value, str) else "")
def test_arrows_only_run_this_way(name: str, path: Path) -> None:
    here = room(name)
    for target in imports(path):
        if target.split(".")[0] in PACKAGES and room(target) != here:
            allowed = MAY_IMPORT[here]
            assert any(target == a or target.startswith(a + ".") for a in allowed), f"{name} imports {target}"


@pytest.mark.parametrize(
    ("name", "path"),
    [m for m in modules() if m[0].startswith(("allocator", "service.core"))],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_decisions_do_no_io(name: str, path: Path) -> None:
    roots = {target.split(".")[0] for target in imports(path)}
    assert not roots & FORBIDDEN_IN_DECISIONS


def test_every_room_has_a_rule() -> None:
    assert all(room(name) for name, _ in modules())
