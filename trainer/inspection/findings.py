"""What an inspection finds: a severity, where it is and what to do; and the exit code that all of it comes to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.errors import MAX_LISTED, one_line

SEVERITIES = ("error", "warning", "note")
EXIT_CODES = {"error": 3, "warning": 1, "note": 0}
# What a run says to faults that no line or image stands for.
OF_ALL_ROWS = {
    "no-landmarks": "no image has a landmark",
    "landmark-not-in-train": "is missing in all",
    "missing-image": "data.root=",
}


@dataclass(frozen=True)
class Place:
    """Where a finding is: a row of the data (None: none in particular), its line, image, and what is there.

    `others` are more rows that it is about, such as the copies of an image.
    """

    row: int | None
    line: int | None
    image: str | None
    detail: str = ""
    others: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.line is None:
            where = self.image or ""
        else:
            where = f"line {self.line}" + (f" ({self.image})" if self.image else "")
        return one_line(f"{where}: {self.detail}" if where and self.detail else where or self.detail)


@dataclass(frozen=True)
class Mark:
    """A landmark that a finding is about, and where it was expected (px), if anywhere in particular."""

    row: int
    landmark: int
    wanted: tuple[float, float] | None = None


@dataclass(frozen=True)
class Finding:
    """One kind of fault in one source, at all its places. `kind` is a word for programs, such as unreadable-image."""

    severity: str  # error | warning | note
    kind: str
    what: str
    advice: str
    source: str
    places: list[Place]
    marks: list[Mark]

    @property
    def rows(self) -> list[int]:
        """All rows it is about, each once."""
        return list(dict.fromkeys(row for p in self.places if p.row is not None for row in (p.row, *p.others)))

    @property
    def lines(self) -> list[str]:
        """What is wrong and in which file; where, the first five and how many more; what to do.

        Nothing in it is obeyed by a terminal, whatever the names and cells of the data hold.
        """
        shown = [str(place) for place in self.places[:MAX_LISTED]]
        shown += [f"and {len(self.places) - MAX_LISTED} more"] if len(self.places) > MAX_LISTED else []
        first, last = one_line(f"{self.source}: {self.what}"), one_line(self.advice)
        return [first, *shown, *([last] if last else [])]

    def as_json(self) -> dict[str, Any]:
        places = [{"line": place.line, "image": place.image, "detail": place.detail} for place in self.places]
        return {
            "severity": self.severity,
            "kind": self.kind,
            "what": self.what,
            "source": self.source,
            "places": places,
            "advice": self.advice,
        }


@dataclass
class Findings:
    """All findings of an inspection; `add` is how they come in."""

    source: str
    found: list[Finding] = field(default_factory=list)

    def add(
        self,
        severity: str,
        kind: str,
        what: str,
        *,
        places: Sequence[Place] = (),
        advice: str = "",
        marks: Sequence[Mark] = (),
    ) -> None:
        assert severity in SEVERITIES
        self.found.append(
            Finding(severity, kind, what, advice, Path(self.source).resolve().name, list(places), list(marks))
        )

    def __len__(self) -> int:
        return len(self.found)

    def sorted(self) -> list[Finding]:
        """The worst first."""
        return sorted(self.found, key=lambda finding: SEVERITIES.index(finding.severity))

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.found)

    def tell(self, refusal: str) -> bool:
        """Whether an error says, in its own words, what a run would refuse the data for."""
        return any(finding.severity == "error" and _tells(finding, refusal) for finding in self.found)

    @property
    def exit_code(self) -> int:
        return max((EXIT_CODES[finding.severity] for finding in self.found), default=0)


def _tells(finding: Finding, refusal: str) -> bool:
    """Whether both name a line or an image in common, or say the same."""
    told = " ".join([finding.what, *map(str, finding.places)])
    if set(re.findall(r"\bline [0-9]+\b", told)) & set(re.findall(r"\bline [0-9]+\b", refusal)):
        return True
    if any(place.line is None and place.image and place.image in refusal for place in finding.places):
        return True
    same = OF_ALL_ROWS.get(finding.kind, finding.what)
    return one_line(same).lower() in refusal.lower()


def counted(number: int, thing: str, things: str | None = None) -> str:
    """1 image, 2 images."""
    return f"{number} {thing if number == 1 else things or thing + 's'}"
