"""The alerts, their runbook and the Grafana dashboard ask for what is there."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no stubs are locked for the sake of two tests
from prometheus_client.parser import text_string_to_metric_families

from receiptd.clock import ManualClock
from receiptd.gate import Gate
from receiptd.log import EVENTS
from receiptd.metrics import QUERY_RESULTS, Lags, Metrics
from receiptd.store.gauges import Gauges, OpenRows
from receiptd.tally import Counts
from receiptd.web.health import SourceView
from tests.test_cli_help import COMMANDS

ROOT = Path(__file__).parent.parent
RULES = ROOT / "deploy/prometheus/rules.yml"
RUNBOOK = (ROOT / "docs/runbook.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "deploy/grafana/receiptd.json").read_text(encoding="utf-8"))
GROUPS = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"]
}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = {
    **{name: rule["expr"] for name, rule in ALERTS.items()},
    **{
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in PANELS
        for target in panel["targets"]
    },
}
# Prometheus' own, and what it adds to each series.
_PROMETHEUS = {"up": {"job", "instance"}, "ALERTS": {"alertname", "alertstate"}}
_ADDED = {"job", "instance", "le"}
_NAME = re.compile(r"\b(receiptd_\w+|up|ALERTS)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"')


class _Tallied:
    lags = Lags()

    def counts(self) -> Counts:
        now = ManualClock().now()
        return Counts(last_pull_at=now, last_commit_at=now)


def scrape() -> dict[str, dict[str, set[str]]]:
    """Return each series that a daemon has, with its labels and the values that they take."""
    clock = ManualClock()
    metrics = Metrics(clock)
    metrics.sources = [
        SourceView(
            name="s",
            puller="mns",
            account="m",
            wait_s=30,
            tally=_Tallied(),
            gate=Gate(clock),
            expires_at=lambda: clock.now() + timedelta(minutes=8),
        )
    ]
    for result in QUERY_RESULTS:
        metrics.queried("m", result)
    metrics.lost("m", 1)
    metrics.saw_database(True)
    metrics.learned(Gauges({"m": OpenRows(1, 1, clock.now())}, {"not_json": 1}, {"app": 1}))
    found: dict[str, dict[str, set[str]]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            labels = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return found


SCRAPE = scrape()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_each_expression_asks_for_series_and_labels_that_are_there(name: str) -> None:
    asked = _NAME.findall(EXPRESSIONS[name])
    assert asked
    for series, selector in asked:
        labels = _PROMETHEUS.get(series) or SCRAPE[series].keys() | _ADDED
        matchers = _MATCHER.findall(selector)
        assert {label for label, _, _ in matchers} <= labels, series
        for label, operator, value in matchers:
            if label in ("step", "result", "outcome"):
                values = value.split("|") if operator == "=~" else [value]
                assert set(values) <= SCRAPE[series][label]


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_how_bad_it_is_and_what_it_is_in_two_languages(name: str) -> None:
    rule = ALERTS[name]
    said = rule["annotations"]

    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert said.keys() == {"summary", "summary_zh", "description", "runbook_url"}
    assert re.search(r"[\u4e00-\u9fff]", said["summary_zh"])
    assert said["runbook_url"] == f"docs/runbook.md#{name.lower()}"


def test_the_runbook_has_an_entry_for_each_alert_and_no_other() -> None:
    assert re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_each_entry_says_what_it_means_where_to_look_what_to_do_and_how_it_ends(name: str) -> None:
    entry = RUNBOOK.partition(f"### {name}\n")[2].partition("\n#")[0]

    assert re.findall(r"^\*\*(Means|Look|Do|Ends)\b", entry, re.MULTILINE) == [
        "Means", "Look", "Do", "Ends",
    ]  # fmt: skip


def documents() -> Iterator[str]:
    for name in ("runbook", "deploying"):
        yield (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")


def test_the_documents_name_commands_options_and_events_that_are_there() -> None:
    text = " ".join("\n".join(documents()).split())

    for words in re.findall(r"`receiptd ([a-z][^`]*)`", text):
        first, second = (*words.split(), "")[:2]
        is_group = hasattr(COMMANDS.get(f"receiptd {first}"), "commands")
        command = COMMANDS.get(f"receiptd {first} {second}" if is_group else f"receiptd {first}")
        assert command is not None, words
        known = {option for one in command.params for option in one.opts}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", words)) <= known, words
    events = set(re.findall(r"`([a-z]+\.[a-z_]+)`", text)) - {"database.url", "http.token"}
    assert {one for one in events if one.partition(".")[0] in _subjects()} <= EVENTS.keys()
    assert "source.lost" in events


def _subjects() -> set[str]:
    return {event.partition(".")[0] for event in EVENTS}


def test_links_within_the_documents_lead_somewhere() -> None:
    for text in documents():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            path, _, anchor = target.partition("#")
            file = ROOT / "docs" / path if path else ROOT / "docs/runbook.md"
            assert file.exists(), target
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert not anchor or anchor in {one.lower().replace(" ", "-") for one in headings}


# --- the dashboard ---


def test_each_panel_has_a_description_a_unit_and_the_chosen_data_source() -> None:
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
        for one in (panel, *panel["targets"]):
            assert one["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_panels_have_a_place_and_a_number_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_the_expressions_use_variables_that_the_dashboard_has() -> None:
    known = {one["name"] for one in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(DASHBOARD["panels"])))

    assert used - {"__rate_interval", "__range"} <= known
    assert {"job", "source", "account", "datasource"} <= used


# --- as Prometheus reads it ---


def promtool(*arguments: str) -> str:
    """Run promtool; return what it said. Skips without it (Debian has it in `prometheus`)."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip(
            "promtool is needed, Prometheus' own reader of its rules: apt-get install prometheus"
        )
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_reads_the_rules() -> None:
    assert f"{len(ALERTS)} rules" in promtool("check", "rules", str(RULES))


def test_the_alerts_fire_when_they_should_and_only_then() -> None:
    promtool("test", "rules", str(RULES.with_name("rules_test.yml")))


def test_every_alert_is_tried() -> None:
    tried = RULES.with_name("rules_test.yml").read_text()

    assert {name for name in ALERTS if name not in tried} == set()


def test_prometheus_reads_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    rules = [
        {
            "record": f"panel:{number}",
            "expr": re.sub(r"\$__\w+", "5m", expression).replace("$", ""),
        }
        for number, expression in enumerate(EXPRESSIONS.values())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    promtool("check", "rules", str(file))
