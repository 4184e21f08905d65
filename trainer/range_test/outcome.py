"""What a run of range tests alone came to: results.json and a report."""

from __future__ import annotations

import json
import logging
import shlex
from typing import Any

from trainer.command_line import command
from trainer.config.run import TrainConfig
from trainer.config.schedules import AUTO
from trainer.profile import NoStopwatch
from trainer.report import write_report
from trainer.run_dir import RunDir, write_json
from trainer.state import TrainState

log = logging.getLogger(__name__)


def read_findings(run_dir: RunDir, phases: list[str]) -> dict[str, dict[str, Any]]:
    """What range_test.json says of each of these phases that was tested."""
    files = {phase: run_dir.range_test(phase) / "range_test.json" for phase in phases}
    return {phase: json.loads(file.read_text(encoding="utf-8")) for phase, file in files.items() if file.exists()}


def range_test_pictures(run_dir: RunDir, phases: list[str]) -> dict[str, Any]:
    """Captions and files; those of phases that were not tested are absent."""
    files = {f"Range test, {phase} phase": run_dir.range_test(phase) / "range_test.png" for phase in phases}
    return {caption: file for caption, file in files.items() if file.exists()}


def write_test_outcome(run_dir: RunDir, config: TrainConfig, state: TrainState, watch: NoStopwatch) -> None:
    """Write results.json and report.html, and say which command trains at the rates that were found."""
    findings = read_findings(run_dir, config.phase_names)
    environment = run_dir.read_environment()
    command = _training_command(config, state, environment["overrides"])
    results = {
        "verdict": " ".join(f"Phase {phase}: {found['verdict']}." for phase, found in findings.items()),
        "range_test": findings,
        "seconds": round(state.seconds, 2),
        "commands": {"train at these rates": command} if command else {},
        "environment": environment,
        **watch.told(),
    }
    write_json(run_dir.results, results)
    pictures = range_test_pictures(run_dir, config.phase_names)
    write_report(run_dir.report, title=run_dir.path.name, results=results, pictures=pictures)
    if command:
        log.info("to train at these rates: %s", command)
    log.info("range_test=only: no training follows; everything is in %s (open report.html)", run_dir.path)


def _training_command(config: TrainConfig, state: TrainState, overrides: list[str]) -> str:
    """The same command with numbers in the place of the test; empty where nothing was found."""
    kept = [
        text
        for text in overrides
        if not text.lstrip("+~").startswith(("range_test", "resume")) and not text.endswith(f"={AUTO}")
    ]
    given = {text.lstrip("+").split("=")[0] for text in kept}
    numbers = []
    for phase, found in state.found_rates.items():
        for key in getattr(config.phases, phase).scheduler.auto_keys:
            name = f"phases.{phase}.scheduler.{key}"
            if key in found and name not in given:
                numbers.append(f"{name}={found[key]:.3g}")
    return f"{command()} {shlex.join([*kept, *numbers])}" if numbers else ""
