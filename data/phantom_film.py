"""From what X-rays left of a film to the picture of it: tone, grain, marker, ruler and shutters."""

from __future__ import annotations

import copy
import math

import cv2
import numpy as np

from data.phantom_drawing import Film, paint

LETTER_STROKES_MM = {
    "L": [(0.0, 0.0), (0.0, 10.0), (6.0, 10.0)],
    "R": [(0.0, 10.0), (0.0, 0.0), (5.0, 0.5), (6.0, 2.5), (5.0, 5.0), (0.0, 5.5), (6.0, 10.0)],
}


def develop(
    controls: np.ndarray,
    features: dict[str, float],
    shown: frozenset[str],
    size: tuple[int, int],
    to_px: np.ndarray,
    streams: tuple[np.random.Generator, np.random.Generator],
    *,
    trouble: float,
    luck: list[float],
) -> np.ndarray:
    """The picture of a head, (height, width) uint8 of `size`: air black, soft tissue gray, bone light, with the film's
    faults. `controls`, `features`, `shown`: see `paint`. `to_px` (2, 3) maps mm to pixels. `streams`: of the trouble
    and of the grain; they stay where they are, so that the same picture comes out again."""
    height, width = size
    film = Film(height, width, to_px)
    paint(film, controls, features, shown)
    rng, grain_rng = copy.deepcopy(streams)
    tone = (trouble * bounded_normal(rng, 8)).tolist()
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    # Texture of bone: two octaves of smooth noise, in proportion to the bone that is there.
    coarse, fine = (grain_rng.standard_normal((n, n), dtype=np.float32) for n in (12, 56))
    clouds = 0.04 * cv2.resize(coarse, (56, 56), interpolation=cv2.INTER_CUBIC) + 0.032 * fine
    clouds = cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
    attenuation = film.attenuation * (1 + clouds) * math.exp(0.13 * tone[0])
    light = 1 - cv2.exp(-1.3 * attenuation)
    light = cv2.pow(np.maximum(light, 0), math.exp(0.16 * tone[1]))
    contrast = 0.93 * (1 - 0.12 * abs(tone[2]))
    light = contrast * light + (0.5 - 0.5 * contrast + 0.035 * tone[3])
    light += 0.05 * tone[4] * x + 0.03 * abs(tone[6]) * x * np.abs(x) + 0.05 * tone[5] * y
    blur_px = 0.35 * abs(tone[7]) * height / 256
    if blur_px > 0.2:
        light = cv2.GaussianBlur(light, (0, 0), blur_px)
    if luck[1] < 0.3 * trouble:
        _stamp_marker(light, "R" if luck[1] < 0.15 * trouble else "L", film.px_per_mm, upper=luck[2] < 0.5)
    if luck[2] < 0.25 * trouble:
        _stamp_ruler(light, film.px_per_mm)
    if luck[3] < 0.3 * trouble:
        _collimate(light, film.px_per_mm, rng)
    # Grain of the film: density is made of grains, so the dark parts are the restless ones.
    grain = grain_rng.standard_normal((height, width), dtype=np.float32)
    light += (0.004 + 0.016 * trouble) * grain * (1.25 - np.clip(light, 0, 1))
    return cv2.convertScaleAbs(np.maximum(light, 0), alpha=255)


def _stamp_marker(light: np.ndarray, letter: str, px_per_mm: float, upper: bool) -> None:
    """A lead letter in a right corner of `light` (H, W), in place."""
    height, width = light.shape
    corner = np.array([width - 17 * px_per_mm, (14 if upper else 222) * height / 240])
    strokes = corner + px_per_mm * np.array(LETTER_STROKES_MM[letter])
    cv2.polylines(
        light, [np.round(16 * strokes).astype(np.int32)], False, 0.95, max(1, round(1.6 * px_per_mm)), shift=4
    )


def _stamp_ruler(light: np.ndarray, px_per_mm: float) -> None:
    """The nasal rest's steel ruler at the upper right of `light` (H, W), in place: a tick every 5 mm."""
    height, width = light.shape
    x = width - 0.09 * width
    for i in range(9):
        y = 0.14 * height + 5 * i * px_per_mm
        start, end = (round(16 * (x - 3 * px_per_mm)), round(16 * y)), (round(16 * x), round(16 * y))
        cv2.line(light, start, end, 0.85, max(1, round(px_per_mm)), cv2.LINE_8, shift=4)
    rod = (round(x), 0), (round(x), round(0.14 * height + 42 * px_per_mm))
    cv2.line(light, *rod, 0.6, max(1, round(2 * px_per_mm)), cv2.LINE_8)


def _collimate(light: np.ndarray, px_per_mm: float, rng: np.random.Generator) -> None:
    """Lead shutters: black borders of up to 6 mm on `light` (H, W), in place."""
    left, right, top, bottom = (rng.uniform(0, 6, 4) * px_per_mm).astype(int)
    height, width = light.shape
    shut = np.ones_like(light)
    shut[top : height - bottom, left : width - right] = 0
    light -= (light - 0.02) * cv2.GaussianBlur(shut, (0, 0), 0.5 * px_per_mm)


def bounded_normal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Normal draws cut at 2.2 standard deviations, so that no landmark leaves the film."""
    return np.clip(rng.standard_normal(size), -2.2, 2.2)
