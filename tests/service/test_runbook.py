"""Whatever the runbook names exists: metrics, flags, routes, error codes, log events, fields and states."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from service.api.access.tenants import Tenant
from service.api.app import create_app
from service.api.errors import STATUS_AND_TYPE
from service.api.operations.responses import CoreState, DebugState, Note, RequestRecord, State
from service.api.operations.tenant_views import TenantView
from service.config import ServeSettings
from service.core.messages.events import FinishReason, Gauges, Timings
from service.core.messages.views import PoolView, RequestView, SessionView
from service.core.policies import POLICIES
from service.core.switching.mechanisms import PRESETS
from service.telemetry.metrics import Metrics
from service.telemetry.switches import DROPS
from tests.settings import make_limits

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", TEXT))

WORD = re.compile(r"[a-z]+(_[a-z]+)*")
EVENT = re.compile(r'log\.(?:debug|info|warning|error|exception)\(\s*"(\w+)"')
REASONS = {"slot", "room", "step", "growth", "failure"}  # of waiting and being preempted: service.core
DROPPED = {"room", "expired", "limit", "closed"}
LABELS = {"code", "phase", "prefill", "decode", "user", "request_id"}


def metrics() -> set[str]:
    """Return all names that `/metrics` may show, from the page that another test keeps current."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)`", page, re.MULTILINE))


def routes() -> set[str]:
    app = create_app(None, None, Metrics(), make_limits())
    return {route.resource.canonical for route in app.router.routes()}


def words() -> set[str]:
    """Return the words of views, answers, key files and log lines."""
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "service").rglob("*.py"))
    notes = get_args(get_args(Note)[0])
    typed = [DebugState, CoreState, RequestRecord, *notes]
    views = [Gauges, Timings, PoolView, RequestView, SessionView, TenantView]
    return {
        *(name for kind in typed for name in kind.__annotations__),
        *(get_args(kind.__annotations__["event"])[0] for kind in notes),
        *(field.name for view in views for field in fields(view)),
        *(field.alias or name for name, field in Tenant.model_fields.items()),  # as in key files
        *STATUS_AND_TYPE,
        *get_args(State),
        *EVENT.findall(sources),
        *(reason.value for reason in FinishReason),
        *POLICIES,
        *REASONS,
        *DROPPED,
        *DROPS,
        *PRESETS,
        *LABELS,
        "step_age_s",
    }


@pytest.mark.parametrize("name", sorted(each for each in NAMED if each.startswith(("fastswitch_", "process_"))))
def test_a_metric_exists(name: str) -> None:
    assert name in metrics()


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"--[a-z][a-z-]+", TEXT))))
def test_a_flag_exists(flag: str) -> None:
    assert flag.removeprefix("--").replace("-", "_") in ServeSettings.model_fields


@pytest.mark.parametrize("path", sorted(each for each in NAMED if each.startswith("/")))
def test_a_route_exists(path: str) -> None:
    assert path in routes()


@pytest.mark.parametrize(
    "word", sorted(each for each in NAMED if WORD.fullmatch(each) and not each.startswith(("fastswitch_", "process_")))
)
def test_a_word_of_code_exists(word: str) -> None:
    assert word in words()


def test_every_error_about_a_limit_is_explained() -> None:
    limits = {code for code, (status, _) in STATUS_AND_TYPE.items() if status == 429}
    assert limits <= NAMED


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_a_link_leads_somewhere(target: str) -> None:
    assert (ROOT / "docs" / target).exists()
