"""What `python -m trainer.convert` is told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainer.config.checks import check_choice, check_positive
from trainer.config.refusals import refusal


@dataclass(kw_only=True)
class ConvertConfig:
    source: str
    to: str
    from_: str | None  # from, which Python keeps for itself
    format: str | None
    images: str | None
    names: str | None
    pixel_spacing_mm: float | None
    first_pixel: float | None
    annotator: str | None
    image_prefix: str
    overwrite: bool

    def __post_init__(self) -> None:
        check_positive("pixel_spacing_mm", self.pixel_spacing_mm)
        if self.first_pixel is not None and not -1 <= self.first_pixel <= 1:
            raise ValueError(f"first_pixel={self.first_pixel} must lie in -1 to 1; it is 0, 0.5 or 1 in most files")
        for key in ("source", "to"):
            if not getattr(self, key).strip():
                raise ValueError(f"{key} is empty; give it as {key}=PATH")

    def check_formats(self, formats: Iterable[str]) -> None:
        """Raises ValueError for a format that there is not."""
        for key, value in (("from", self.from_), ("format", self.format)):
            if value is not None:
                check_choice(key, value, formats)


KEYS = tuple(field.name.rstrip("_") for field in fields(ConvertConfig))


def to_convert_config(composed: DictConfig) -> ConvertConfig:
    """Raises ValueError: one line that names the key and its value."""
    try:
        if missing := sorted(OmegaConf.missing_keys(composed)):
            raise ValueError(f"{missing[0]} has no value; give it as {missing[0]}=PATH")
        plain = OmegaConf.to_container(composed, resolve=True)
        assert isinstance(plain, dict)
        typed = OmegaConf.structured(ConvertConfig)
        merged = OmegaConf.merge(typed, {"from_" if key == "from" else key: value for key, value in plain.items()})
        config = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        raise ValueError(refusal(error).replace("from_=", "from=")) from None
    assert isinstance(config, ConvertConfig)
    return config
