"""Phantom radiographs: lateral cephalograms drawn by rule, with landmarks, sex, age and scale exactly known."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache, partial

import numpy as np

from data.phantom_anatomy import FILM_MM, REFERENCE_MM
from data.phantom_film import bounded_normal, develop

LANDMARK_NAMES: tuple[str, ...] = tuple(REFERENCE_MM)[:19]  # the 19 of the ISBI 2015 challenge
GROWTH_STAGES: tuple[str, ...] = ("child", "prepubertal", "pubertal", "adolescent", "adult")
STAGE_ENDS_MONTHS = {"F": (96, 120, 150, 184), "M": (104, 138, 170, 198)}  # girls reach each stage earlier
AGE_RANGE_MONTHS = (72.0, 216.0)

# Modes of shape: what moves with what, in mm per unit of the mode. (dx, dy) with y downward.
MODES: dict[str, dict[str, tuple[float, float]]] = {
    "mandible": {
        "supramentale_B": (1, 0.2), "pogonion": (1.05, 0.25), "gnathion": (1, 0.25), "menton": (1, 0.25),
        "soft_tissue_pogonion": (1, 0.25), "lower_lip": (0.7, 0.1), "lower_incisal_incision": (0.5, 0.05),
        "gonion": (-0.25, 0.1), "throat": (0.5, 0.2), "upper_lip": (0.1, 0),
    },
    "maxilla": {
        "subspinale_A": (1, 0), "anterior_nasal_spine": (1, 0), "upper_incisal_incision": (1, 0), "upper_lip": (1, 0),
        "subnasale": (1, 0), "nose_tip": (0.8, 0), "lower_incisal_incision": (0.7, 0), "lower_lip": (0.3, 0),
        "orbitale": (0.3, 0), "posterior_nasal_spine": (0.2, 0),
    },
    "chin": {
        "pogonion": (1, 0), "gnathion": (0.8, 0.4), "menton": (0.3, 0.6), "soft_tissue_pogonion": (1.1, 0.1),
        "supramentale_B": (-0.1, 0),
    },
    "brow": {"glabella": (1, 0), "soft_glabella": (1.1, 0), "nasion": (0.35, 0), "forehead": (-0.6, 0.2)},
    "proclination": {
        "upper_incisal_incision": (1, -0.1), "lower_incisal_incision": (0.9, -0.1), "upper_lip": (0.5, 0),
        "lower_lip": (0.5, 0),
    },
    "overbite": {"lower_incisal_incision": (0, 1)},
    "nose": {"nose_tip": (1, 0.3), "subnasale": (0.15, 0.1)},
    "lips": {"upper_lip": (1, 0), "lower_lip": (1, 0.2), "subnasale": (0.5, 0), "soft_tissue_pogonion": (0.6, 0)},
    "base_length": {
        "porion": (1, 0), "articulare": (1, 0), "gonion": (0.8, 0), "opisthion": (1, 0), "occiput": (1, 0),
        "spine": (0.7, 0),
    },
    "base_drop": {"porion": (0, 1), "articulare": (0, 1), "gonion": (0, 0.6), "opisthion": (0, 0.8)},
    "ramus": {"gonion": (0, 1), "menton": (0, 0.2), "throat": (0, 0.4)},
    "palate": {"posterior_nasal_spine": (-0.4, 1), "anterior_nasal_spine": (0, -0.5), "subspinale_A": (0, -0.4)},
    "nasion_height": {"nasion": (0, 1), "glabella": (0, 0.9), "soft_glabella": (0, 0.8), "orbitale": (0, 0.4)},
    "orbit": {"orbitale": (0.5, 1)},
    "vault": {"vertex": (0, -1), "occiput": (-0.8, -0.3), "forehead": (0.3, -0.3)},
}  # fmt: skip
# Mean change of a mode with maturity (per unit), with being male, and its spread between individuals.
MODE_STATISTICS: dict[str, tuple[float, float, float]] = {
    "mandible": (2.6, 0.8, 2.6), "maxilla": (0.8, 0.2, 2.0), "chin": (0.9, 0.8, 1.0), "brow": (0.9, 1.1, 0.6),
    "proclination": (0.3, 0.0, 1.7), "overbite": (0.0, 0.0, 0.7), "nose": (2.2, 0.5, 1.2), "lips": (0.3, 0.7, 0.8),
    "base_length": (-0.8, -0.2, 1.7), "base_drop": (0.4, 0.3, 1.5), "ramus": (2.2, 0.9, 2.0), "palate": (0.2, 0.0, 1.2),
    "nasion_height": (-0.3, 0.0, 1.5), "orbit": (0.2, 0.0, 1.2), "vault": (0.3, 0.6, 3.0),
}  # fmt: skip


@dataclass(frozen=True)
class PhantomSample:
    """One radiograph, drawn when it is first looked at, and the truth about it: `points` (19, 2) px.

    A landmark without a label is NaN.
    """

    draw: Callable[[], np.ndarray] = field(repr=False, compare=False)
    points: np.ndarray
    pixel_spacing_mm: float
    sex: str
    age_months: float
    growth_stage: str

    @cached_property
    def image(self) -> np.ndarray:
        """(H, W) uint8, not to be written to."""
        drawn = self.draw()
        drawn.flags.writeable = False
        return drawn


def growth_stage(sex: str, age_months: float) -> str:
    """The class of growth of a girl ("F") or boy ("M") of this age."""
    return GROWTH_STAGES[sum(age_months >= end for end in STAGE_ENDS_MONTHS[sex])]


def draw_phantom(
    seed: int,
    index: int,
    *,
    height: int = 256,
    width: int = 208,
    missing_fraction: float = 0.0,
    trouble: float = 1.0,
) -> PhantomSample:
    """Radiograph number `index` of collection `seed`: a pure function of its arguments.

    `trouble` scales everything that makes a film hard to read: 0 is a straight, clean exposure, 1 is everyday practice.
    Each landmark's label is missing with probability `missing_fraction`, but never all of them.
    Raises ValueError for a size below 64 px, a fraction outside [0, 1], negative trouble, seed or index.
    """
    _check(seed, index, height, width, missing_fraction, trouble)
    # Independent streams: the same head comes out whatever the size, the trouble and the missing labels.
    shape_rng, label_rng, trouble_rng, grain_rng = np.random.default_rng([seed, index]).spawn(4)

    # --- who: sex, age, shape
    sex = "FM"[int(shape_rng.integers(2))]
    age_months = round(float(shape_rng.uniform(*AGE_RANGE_MONTHS)), 1)
    controls, features, shown = _individual(shape_rng, sex, age_months)
    magnification = 1 + 0.02 * float(bounded_normal(shape_rng, 1)[0])

    # --- where on the film: the truth follows exactly
    pose = (trouble * bounded_normal(trouble_rng, 4)).tolist()
    px_per_mm = min(width / FILM_MM[0], height / FILM_MM[1]) * magnification * math.exp(0.015 * pose[0])
    to_px = _film_to_px(height, width, px_per_mm, math.radians(3.0 * pose[1]), shift_mm=(3.0 * pose[2], 3.0 * pose[3]))
    points = controls[:19] @ to_px[:, :2].T + to_px[:, 2]

    # --- how it looks, which takes a hundred times as long
    luck = trouble_rng.random(4).tolist()
    if luck[0] < 0.35 * trouble:
        shown |= {"fillings"}
    draw = partial(
        develop, controls, features, shown, (height, width), to_px, (trouble_rng, grain_rng), trouble=trouble, luck=luck
    )

    missing = label_rng.random(19) < missing_fraction
    missing[int(label_rng.integers(19))] &= not missing.all()
    points[missing] = np.nan
    return PhantomSample(draw, points, 1 / px_per_mm, sex, age_months, growth_stage(sex, age_months))


@lru_cache(maxsize=2)  # the jobs of a sweep train on the same
def draw_phantoms(
    num_images: int, *, seed: int, height: int, width: int, missing_fraction: float = 0.0, trouble: float = 1.0
) -> tuple[PhantomSample, ...]:
    """The first `num_images` radiographs of a collection, see `draw_phantom`; their points are not to be written to."""
    drawn = tuple(
        draw_phantom(seed, index, height=height, width=width, missing_fraction=missing_fraction, trouble=trouble)
        for index in range(num_images)
    )
    for one in drawn:
        one.points.flags.writeable = False
    return drawn


def _check(seed: int, index: int, height: int, width: int, missing_fraction: float, trouble: float) -> None:
    for name, value, lowest in (("seed", seed, 0), ("index", index, 0), ("height", height, 64), ("width", width, 64)):
        if value < lowest:
            raise ValueError(f"{name}={value} must be at least {lowest}")
    if not 0 <= missing_fraction <= 1:
        raise ValueError(f"missing_fraction={missing_fraction} must lie in [0, 1]")
    if not 0 <= trouble < math.inf:
        raise ValueError(f"trouble={trouble} must be a finite number that is not negative")


def _individual(
    rng: np.random.Generator, sex: str, age_months: float
) -> tuple[np.ndarray, dict[str, float], frozenset[str]]:
    """Control points (len(REFERENCE_MM), 2) mm of one head, the growth of its features, and the parts it has."""
    male = 1.0 if sex == "M" else -1.0
    # Maturity runs from about -1.3 to 1.3. Girls are a year and a half ahead, individuals vary by half a year.
    body_clock = age_months - 9 * male + 5 * float(bounded_normal(rng, 1)[0])
    maturity = 1.3 * math.tanh((body_clock - 140) / 75)
    spread = bounded_normal(rng, len(MODES))
    size, face_height, divergence, vertebra, sinus = bounded_normal(rng, 5)

    names = list(REFERENCE_MM)
    base = np.array(list(REFERENCE_MM.values()), dtype=np.float64)
    moved = np.zeros_like(base)
    for (mode, directions), z in zip(MODES.items(), spread, strict=True):
        growth, dimorphism, deviation = MODE_STATISTICS[mode]
        amount = growth * maturity + dimorphism * male * (1 + 0.4 * maturity) + deviation * z
        for name, direction in directions.items():
            moved[names.index(name)] += amount * np.array(direction)
    # The face lengthens downward from the nasion; the braincase is nearly full-grown in a child.
    depth = np.clip((base[:, 1] - 97) / 108, 0, 1.2)
    moved[:, 1] += depth * (3.6 * maturity + 1.2 * male + 3.0 * face_height)
    moved += (base - base[0]) * (0.03 * maturity + 0.012 * male + 0.022 * size) * np.where(depth > 0, 1, 0.6)[:, None]
    # A steep or flat mandible: rotation about the joint.
    swing = {"supramentale_B": 1.0, "pogonion": 1.0, "gnathion": 1.0, "menton": 1.0, "soft_tissue_pogonion": 1.0,
             "lower_lip": 0.7, "lower_incisal_incision": 0.5, "gonion": 0.8, "throat": 0.8}  # fmt: skip
    angle = math.radians(2.2 * divergence - 0.6 * maturity)
    for name, share in swing.items():
        i = names.index(name)
        x, y = base[i] - REFERENCE_MM["articulare"]
        moved[i] += share * angle * np.array([-y, x])
    moved[:19] += 0.5 * bounded_normal(rng, 38).reshape(19, 2)

    features = {
        "vertebra_height": 0.16 * maturity - 0.12 + 0.03 * float(vertebra),
        "frontal_sinus": 0.35 * maturity + 0.12 * male - 0.1 + 0.12 * float(sinus),
        "molar_eruption": -min(1.0, max(0.0, (150 - body_clock) / 50)),
    }
    return base + moved, features, frozenset({"wisdom_buds"} if body_clock > 125 else ())


def _film_to_px(
    height: int, width: int, px_per_mm: float, angle_rad: float, shift_mm: tuple[float, float]
) -> np.ndarray:
    """Similarity (2, 3) from film mm to pixels: the film's centre, shifted, comes to the centre of the image."""
    matrix = px_per_mm * np.array(
        [[math.cos(angle_rad), -math.sin(angle_rad)], [math.sin(angle_rad), math.cos(angle_rad)]]
    )
    centre_px = np.array([(width - 1) / 2, (height - 1) / 2]) + px_per_mm * np.array(shift_mm)
    return np.c_[matrix, centre_px - matrix @ (np.array(FILM_MM) / 2)]
