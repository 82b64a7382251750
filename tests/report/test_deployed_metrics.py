"""The alerts and the dashboard that ship: promtool reads them, and they speak of metrics that are written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.report.cases import CASES, render

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
RULES = DEPLOY / "prometheus/fleetaudit.rules.yml"
DASHBOARD = json.loads((DEPLOY / "grafana/fleetaudit.json").read_text())
OF_PROMETHEUS = frozenset({"instance", "job"})  # labels that scraping adds
_METRIC = re.compile(r"\b(fleetaudit_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        assert not os.environ.get("FLEETAUDIT_NO_SKIP"), "see .ci/run"
        pytest.skip("promtool is not installed")
    return found


def alerts() -> dict[str, str]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def panels() -> dict[str, str]:
    queries = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in DASHBOARD["panels"]
        for target in panel["targets"]
    }
    assert len(queries) == sum(len(panel["targets"]) for panel in DASHBOARD["panels"])
    return queries


def written() -> dict[str, dict[str, set[str]]]:
    """Metrics with their labels and the values these have, over all cases of reports."""
    found: dict[str, dict[str, set[str]]] = {}
    for case in CASES.values():
        for family in text_string_to_metric_families(render("prometheus", case()).decode()):
            for sample in family.samples:
                labels = found.setdefault(sample.name, {})
                for label, value in sample.labels.items():
                    labels.setdefault(label, set()).add(value)
    return found


METRICS = written()


@pytest.mark.parametrize("expression", [*alerts().values(), *panels().values()], ids=[*alerts(), *panels()])
def test_it_speaks_of_what_is_written(expression: str) -> None:
    named = list(_METRIC.finditer(expression))
    assert named
    for metric in named:
        labels = METRICS[metric[1]]
        for label, operator, value in _LABEL.findall(metric[2] or ""):
            if label in OF_PROMETHEUS:
                continue
            values = value.split("|") if "~" in operator else [value]
            assert set(values) <= labels[label]


def test_promtool_takes_the_alerts_and_they_fire_when_they_should(promtool: str) -> None:
    for arguments in (["check", "rules", RULES.name], ["test", "rules", "fleetaudit.test.yml"]):
        done = subprocess.run(
            [promtool, *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire() -> None:
    cases = yaml.safe_load((RULES.parent / "fleetaudit.test.yml").read_text())["tests"]
    fired = {test["alertname"] for case in cases for test in case["alert_rule_test"] if test["exp_alerts"]}
    assert fired == set(alerts())


def test_promtool_takes_the_queries_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$instance", ".*")}
        for number, query in enumerate(panels().values())
    ]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", "rules.yml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_panels_do_not_overlap_and_know_their_data_source() -> None:
    taken: set[tuple[int, int]] = set()
    variables: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
    assert [item["name"] for item in variables] == ["datasource", "instance"]
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells
        assert panel["datasource"]["uid"] == "${datasource}"
