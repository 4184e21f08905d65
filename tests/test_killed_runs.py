"""Runs that SIGKILL ends at random moments, several times each: benchmarks/kill_proof.py in small."""

import os
import re
import subprocess
import sys
from pathlib import Path

PROOF = Path(__file__).parents[1] / "benchmarks" / "kill_proof.py"


def test_runs_killed_at_random_moments_end_with_the_bits_of_an_uninterrupted_one() -> None:
    """Forks of a process that has imported everything, with workers; the script itself also has whole processes."""
    case, kills = "0, 2, 1 workers", 4
    command = [sys.executable, str(PROOF), "--cases", case, "--kills", str(kills), "--seed", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROOF.parents[1])}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    row = re.search(rf"^\| {case} \| (\d+) \| .+ \| equal \|$", ended.stdout, re.MULTILINE)
    assert row is not None, ended.stdout
    assert 1 <= int(row[1]) <= kills
