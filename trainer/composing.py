"""Composing a config no more often, and no slower, than it takes."""

from __future__ import annotations

from collections.abc import Sequence

import yaml
from hydra._internal.hydra import Hydra
from hydra.types import RunMode

_compose_for_mode = Hydra.get_mode


def compose_once() -> None:
    """Keep Hydra from composing each config twice, the first time only to see whether it sets hydra.mode: none of ours
    does, and what is typed can be read. Where a config of somebody else's takes part Hydra looks as ever."""
    Hydra.get_mode = _mode  # type: ignore[method-assign]


def parse_fast() -> None:
    """Let OmegaConf, which derives its reader of YAML from yaml.SafeLoader, have the parser of libyaml: the same
    language, in a fifth of the time."""
    if yaml.__with_libyaml__:
        yaml.SafeLoader = yaml.CSafeLoader


def _mode(self: Hydra, config_name: str | None, overrides: Sequence[str]) -> RunMode | None:
    typed = [text for text in overrides if text.lstrip("+~").startswith(("hydra.mode", "hydra="))]
    sources = self.config_loader.get_sources()
    known = all(source.path in ("hydra.conf", "conf", "") for source in sources)
    if typed or not known:
        mode: RunMode | None = _compose_for_mode(self, config_name, list(overrides))
        return mode
    return None
