"""The X-ray of the phantom: outlines in mm become shadows on a film, each with sub-pixel edges."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from data.phantom_anatomy import ATLAS, REFERENCE_MM, Part, tooth


class Film:
    """Attenuation (H, W) that shadows add to; `to_px` (2, 3) maps mm to pixels, pixel centres at integers."""

    def __init__(self, height: int, width: int, to_px: np.ndarray) -> None:
        self.attenuation = np.zeros((height, width), np.float32)
        self.to_px = to_px
        self.px_per_mm = float(np.hypot(to_px[0, 0], to_px[1, 0]))
        self.lines: list[tuple[np.ndarray, Part]] = []

    def pixels(self, points_mm: np.ndarray) -> np.ndarray:
        """Points (N, 2) mm in pixels."""
        return points_mm @ self.to_px[:, :2].T + self.to_px[:, 2]

    def expose(self, outlines: Sequence[np.ndarray], part: Part) -> None:
        """Add one shadow with these outlines or centre lines (N, 2) px. Lines wait for `expose_lines`."""
        if part.kind == "line":
            self.lines += [(outline, part) for outline in outlines]
            return
        sigma = part.softness_mm * self.px_per_mm
        reach = 2 + (2.5 * sigma if part.kind != "dome" else 0)
        everything = np.concatenate(outlines) if len(outlines) > 1 else outlines[0]
        height, width = self.attenuation.shape
        x0, y0 = np.maximum(np.floor(everything.min(0) - reach), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(everything.max(0) + reach) + 1, (width, height)).astype(int)
        if x1 <= x0 or y1 <= y0:
            return
        k = 4 if sigma < 1.2 and (y1 - y0) * (x1 - x0) < 16_000 else 2  # small sharp things need it most
        canvas = np.zeros(((y1 - y0) * k, (x1 - x0) * k), np.uint8)
        ends = np.cumsum([len(outline) for outline in outlines])[:-1]
        for outline in np.split(_fine(everything - (x0, y0), k), ends):
            cv2.fillPoly(canvas, [outline], 255, cv2.LINE_8, shift=4)
            # OpenCV fills the pixels on the edge too, which are half inside: left full, every bone would be too big.
            cv2.polylines(canvas, [outline], True, 127, 1, cv2.LINE_8, shift=4)
        sharp = np.multiply(_reduce(canvas, k), part.attenuation / 255, dtype=np.float32)
        shadow = _blur(sharp, sigma)
        region = self.attenuation[y0:y1, x0:x1]
        if part.kind == "cavity":
            region *= 1 - shadow
        elif part.kind == "dome":  # 30 % at its edge, all of its attenuation inside
            region += np.minimum(sharp, np.maximum(1.4 * shadow - 0.4 * part.attenuation, 0.3 * sharp))
        else:
            region += shadow

    def expose_lines(self, softness_mm: float = 0.3) -> None:
        """Add all thin edges at once, in one pass over the film: where two cross, the denser one shows."""
        height, width = self.attenuation.shape
        k = 4 if height < 200 else 2
        canvas = np.zeros((height * k, width * k), np.uint8)
        for line, part in sorted(self.lines, key=lambda waiting: waiting[1].attenuation):
            thickness = 1 + 2 * round(
                max(0.0, part.width_mm * self.px_per_mm * k - 1) / 2
            )  # OpenCV draws odd ones only
            cv2.polylines(
                canvas, [_fine(line, k)], False, round(255 * part.attenuation), thickness, cv2.LINE_8, shift=4
            )
        shadow = np.multiply(_reduce(canvas, k), 1 / 255, dtype=np.float32)
        self.attenuation += _blur(shadow, softness_mm * self.px_per_mm)
        self.lines.clear()


def _fine(points: np.ndarray, k: int) -> np.ndarray:
    """Pixel coordinates on a `k` times finer grid, in OpenCV's sixteenths; the pixel centres stay where they are."""
    return np.round(((points + 0.5) * k - 0.5) * 16).astype(np.int32)


def _reduce(canvas: np.ndarray, k: int) -> np.ndarray:
    while k > 1:  # halving twice is several times faster than quartering
        canvas = cv2.resize(canvas, (canvas.shape[1] // 2, canvas.shape[0] // 2), interpolation=cv2.INTER_AREA)
        k //= 2
    return canvas


def _blur(image: np.ndarray, sigma: float) -> np.ndarray:
    if sigma < 0.2:
        return image
    if sigma < 4 or min(image.shape) < 16:
        taps = 2 * math.ceil(2.6 * sigma) + 1
        return cv2.GaussianBlur(image, (taps, taps), sigma, borderType=cv2.BORDER_REPLICATE)
    height, width = image.shape  # a wide blur loses nothing on a coarse grid and costs a tenth
    coarse = cv2.resize(image, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), sigma / 4, borderType=cv2.BORDER_REPLICATE)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def paint(film: Film, controls: np.ndarray, features: dict[str, float], shown: frozenset[str]) -> None:
    """X-ray the individual with these controls (len(REFERENCE_MM), 2) mm; `shown` names the optional parts it has."""
    curves_mm = ATLAS.individual(controls, features)
    curves = film.pixels(curves_mm)
    for part in ATLAS.parts:
        if not part.only_if or part.only_if in shown:
            film.expose([curves[where] for where in part.curves], part)
    at = dict(zip(REFERENCE_MM, controls, strict=True))
    upper, lower = curves_mm[ATLAS.apexes]
    film.expose([film.pixels(tooth(at["upper_incisal_incision"], upper, 7.4))], Part("dome", 0.8, 0.5))
    film.expose([film.pixels(tooth(at["lower_incisal_incision"], lower, 6.2))], Part("dome", 0.75, 0.5))
    turn = np.linspace(0, 2 * np.pi, 33)
    ring = film.pixels(at["porion"] + 4.6 * np.c_[np.cos(turn), np.sin(turn)])
    film.expose([ring], Part("line", 0.6, 0, width_mm=1.1))
    film.expose([ring[:-1]], Part("cavity", 0.18, 0.3))
    film.expose_lines()
