"""The anatomy of the phantom: a reference head as curves in mm, and the warp that makes it an individual."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

FILM_MM = (195.0, 240.0)  # width and height of the film that the reference head lies on

# The 19 landmarks first, in the order of the challenge, then anchors that only steer the warp.
REFERENCE_MM: dict[str, tuple[float, float]] = {
    "sella": (81, 103), "nasion": (140, 97), "orbitale": (127, 122), "porion": (60, 121), "subspinale_A": (139, 152),
    "supramentale_B": (137, 185), "pogonion": (139, 197), "menton": (130, 204.5), "gnathion": (136, 202.5),
    "gonion": (73, 174), "lower_incisal_incision": (142.5, 168.5), "upper_incisal_incision": (145.5, 171),
    "upper_lip": (157, 162), "lower_lip": (154.5, 179), "subnasale": (151, 149.5), "soft_tissue_pogonion": (149.5, 197),
    "posterior_nasal_spine": (97, 143), "anterior_nasal_spine": (143, 144.5), "articulare": (67, 133),
    "glabella": (146.5, 86), "soft_glabella": (153, 82), "forehead": (134, 42), "vertex": (85, 10), "occiput": (-2, 90),
    "opisthion": (33, 142), "nose_tip": (169.5, 134), "throat": (104, 207), "spine": (47, 207), "shoulder": (0, 245),
}  # fmt: skip

INCISOR_APEXES_MM = [(136.0, 150.0), (133.0, 189.5)]  # where the roots of upper and lower incisor end in bone

Entry = str | tuple[float, float]


@dataclass(frozen=True)
class Part:
    """One shadow on the film. `kind`: fill (even), dome (thick in the middle), line, or cavity (a share of air).

    `curves` are its outlines or centre lines in the atlas' points; where outlines overlap, the shadow is no deeper.
    """

    kind: str
    attenuation: float
    softness_mm: float
    width_mm: float = 0.0
    only_if: str = ""
    curves: tuple[slice, ...] = ()


class Atlas:
    """Curves of the reference head, all in one array `points` (P, 2) mm, with the directions in which features grow."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._curves: list[np.ndarray] = []
        self._growth: dict[str, list[tuple[slice, np.ndarray]]] = {}
        self._count = 0

    def add(
        self, kind: str, attenuation: float, entries: Sequence[Entry], *, softness: float = 0.35, width: float = 0.0,
        smooth: bool = True, only_if: str = "", grows: Mapping[str, tuple[float, float, float, float]] | None = None,
    ) -> None:  # fmt: skip
        """Add a curve through `entries` (landmark names or mm). `grows`: feature -> centre x, y and gain x, y about it,
        or a plain displacement in mm where the centre is NaN."""
        knots = np.array([REFERENCE_MM[e] if isinstance(e, str) else e for e in entries], dtype=np.float64)
        curve = catmull_rom(knots, closed=kind != "line") if smooth else knots
        where = slice(self._count, self._count + len(curve))
        for feature, (cx, cy, gx, gy) in (grows or {}).items():
            direction = np.ones_like(curve) if np.isnan(cx) else curve - (cx, cy)
            self._growth.setdefault(feature, []).append((where, direction * (gx, gy)))
        part = Part(kind, attenuation, softness, width, only_if, (where,))
        if self.parts and part == replace(self.parts[-1], curves=part.curves):  # alike neighbours make one shadow
            part = replace(part, curves=(*self.parts.pop().curves, where))
        self.parts.append(part)
        self._curves.append(curve)
        self._count += len(curve)

    def bone(
        self, fill: float, cortex: float, *outlines: Sequence[Entry], softness: float = 1.2, only_if: str = ""
    ) -> None:
        """Filled bones and their brighter cortical rim, closed."""
        for outline in outlines:
            self.add("dome", fill, outline, softness=softness, only_if=only_if)
        for outline in outlines:
            self.add("line", cortex, [*outline, outline[0]], width=0.9, only_if=only_if)

    def freeze(self) -> None:
        """Put all curves and the incisors' apexes in one array; solve the thin-plate spline, which is linear, once."""
        self.points = np.concatenate([*self._curves, INCISOR_APEXES_MM])
        self.apexes = slice(self._count, self._count + 2)
        self.growth: dict[str, np.ndarray] = {}
        for feature, entries in self._growth.items():
            self.growth[feature] = np.zeros_like(self.points)
            for where, direction in entries:
                self.growth[feature][where] = direction
        # The incisal tips are 4 mm apart and move freely: only the upper steers the warp, and incisors stay rigid.
        self.steering = np.array([i for i, n in enumerate(REFERENCE_MM) if n != "lower_incisal_incision"])
        controls = np.array(list(REFERENCE_MM.values()))[self.steering]
        n = len(controls)
        system = np.zeros((n + 3, n + 3))
        system[:n, :n] = _thin_plate(controls, controls)
        system[:n, n:] = np.c_[np.ones(n), controls]
        system[n:, :n] = system[:n, n:].T
        basis = np.c_[_thin_plate(self.points, controls), np.ones(len(self.points)), self.points]
        self.warp = np.linalg.solve(system.T, basis.T).T[:, :n]  # (P, n)

    def individual(self, controls: np.ndarray, features: dict[str, float]) -> np.ndarray:
        """Curves (P, 2) mm of a head whose controls (len(REFERENCE_MM), 2) mm are these; exact at each landmark."""
        moved = controls - np.array(list(REFERENCE_MM.values()))
        points = self.points + self.warp @ moved[self.steering]
        for feature, amount in features.items():
            points += amount * self.growth[feature]
        return points


def catmull_rom(knots: np.ndarray, closed: bool, steps: int = 5) -> np.ndarray:
    """Smooth curve (M, 2) through every knot (N, 2)."""
    ends = (knots[-1:], knots[:2]) if closed else (2 * knots[:1] - knots[1:2], 2 * knots[-1:] - knots[-2:-1])
    padded = np.concatenate([ends[0], knots, ends[1]])
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i, None] for i in range(4))
    t = (np.arange(steps) / steps)[None, :, None]
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, knots[-1:]])


def _thin_plate(points: np.ndarray, controls: np.ndarray) -> np.ndarray:
    squared = ((points[:, None] - controls[None]) ** 2).sum(-1)
    return squared * np.log(np.maximum(squared, 1e-12))


def tooth(tip: np.ndarray, apex: np.ndarray, width_mm: float) -> np.ndarray:
    """Outline (N, 2) mm of an incisor from the side, its cutting edge centred at `tip`, its root to `apex`."""
    along = np.array([0, 0.12, 0.28, 0.4, 0.52, 0.78, 0.97, 1.0])
    half = np.array([0.1, 0.24, 0.42, 0.5, 0.47, 0.33, 0.14, 0.0]) * width_mm
    axis = apex - tip
    across = np.array([-axis[1], axis[0]]) / np.hypot(*axis)
    sides = [tip + along[:, None] * axis + side * half[:, None] * across for side in (1, -1)]
    return np.concatenate([sides[0], sides[1][-2::-1]])


# Coordinates read better as paragraphs than as columns.
# fmt: off
def _draw_reference_head() -> Atlas:
    """Every bone, cavity and outline of a lateral cephalogram that looks to the right, roughly from back to front."""
    a = Atlas()
    nan = math.nan
    # --- soft tissue: head and profile, neck, shoulder
    profile: list[Entry] = [(-14, 110), (-12, 68), (8, 28), (42, 7), (85, 1), (118, 9), (141, 34), (151, 64),
        "soft_glabella", (148.5, 96), (154, 109), (162.5, 123), "nose_tip", (168, 141), (159, 146.3), "subnasale",
        (152.3, 155), "upper_lip", (155, 168), (150.5, 170.7), (153, 173.5), "lower_lip", (149.2, 187.5),
        "soft_tissue_pogonion", (146, 206), (136, 212.5), (122, 212), (110, 208.5), "throat", (100, 220), (99, 250),
        (100, 290), (-40, 290), (-30, 190)]
    a.add("dome", 0.36, profile, softness=6)
    a.add("fill", 0.9, [(-40, 222), (-5, 219), (25, 228), (48, 246), (50, 300), (-40, 300)], softness=1.5)
    a.add("fill", 0.12, [(95, 163), (112, 156), (130, 160), (135, 172), (128, 192), (105, 196), (90, 185)], softness=5)
    # --- cranial vault: two flat walls seen through, outer and inner table seen edge-on
    base: list[Entry] = [(45, 139), (60, 132), (73, 118), (80, 110), (92, 99), (112, 97), (130, 98)]
    outer: list[Entry] = ["nasion", (143.6, 91.5), "glabella", (146.4, 78), (143, 62), "forehead", (115, 20), "vertex",
        (47, 16), (16, 37), (0, 68), "occiput", (4, 120), (17, 136), "opisthion"]
    inner: list[Entry] = [(134, 95), (136.5, 84), (135.5, 68), (127, 47), (111, 27), (85, 17), (49, 22.5), (22, 41),
        (7, 71), (5, 91), (10, 116), (21, 130), (34, 136.5)]
    a.add("fill", 0.62, [*outer, *base], softness=0.6)
    a.add("fill", 0.24, outer + inner[::-1], softness=1.3)
    a.add("line", 0.34, outer, width=1.0)
    a.add("line", 0.20, inner, width=1.2)
    a.add("fill", 0.20, [(5, 88), (35, 50), (85, 32), (122, 55), (122, 84), (80, 92), (45, 110)], softness=14)
    a.add("line", 0.07, [(62, 92), (55, 70), (58, 45), (66, 26)], width=1.6)
    a.add("line", 0.08, [(88, 22), (92, 36), (88, 48), (93, 62)], width=0.8)
    # --- base: petrous bone and mastoid, occiput, clivus, sella, roofs of the orbits
    a.add("fill", 0.42, [(36, 119), (52, 110), (70, 111), (76, 119), (68, 130), (54, 138), (42, 140), (33, 130)],
        softness=3)
    a.add("dome", 0.22, [(44, 120), (58, 112), (70, 117), (64, 128), (50, 131)], softness=2)
    for x, y, r in ((40.0, 127.0, 2.6), (46, 133, 2.2), (37, 134, 1.8), (45, 124, 1.7), (51, 137, 2.0), (71, 115, 1.4)):
        a.add("cavity", 0.22, [(x - r, y), (x, y - r), (x + r, y), (x, y + r)], softness=0.6)
    a.add("line", 0.30, [(17, 136), "opisthion", (48, 138.5), (59, 136.4), "articulare", (75, 128.6), (84, 123)],
        width=1.3)
    a.bone(0.25, 0.18, [(74, 98.5), (73, 107), (66, 122), (57, 136), (61, 138), (71, 125), (78, 112), (77, 106)])
    fossa: list[Entry] = [(130, 96.5), (115, 97), (101, 96), (91.5, 97), (87.3, 98), (86.3, 102.5), (84.6, 106.4),
        (81, 108), (77.4, 106.4), (75.7, 102.5), (76.6, 97.6), (74.4, 97), (73, 104), (66, 121), (57, 136)]
    a.add("cavity", 0.22, [(76, 97), (87, 98), (86, 103), (84.4, 106.4), (81, 107.8), (77.6, 106.4), (76, 103)],
        softness=0.8)
    a.add("line", 0.48, fossa[3:13], width=1.25)
    a.add("line", 0.22, fossa[:4], width=1.3)
    a.add("line", 0.26, [(90, 97), (105, 91), (121, 88.5), (133, 92), (139, 98)], width=1.2)
    a.add("line", 0.18, [(93, 98), (108, 93.5), (123, 91.5), (133, 95)], width=1.0)
    a.add("line", 0.22, [(102, 86), (99, 95), (101, 106), (99.5, 117), (98, 124)], width=1.3)
    a.add("line", 0.14, [(105, 88), (102.5, 97), (104, 107), (102, 118)], width=1.2)
    a.add("fill", 0.30, [(68, 116), (78, 110), (96, 100), (104, 116), (101, 140), (92, 150), (76, 140), (66, 130)],
        softness=3)
    a.add("fill", 0.22, [(42, 136), (66, 132), (68, 142), (62, 150), (46, 147)], softness=2.5)
    # --- sinuses and nose: air, with thin walls
    a.add("cavity", 0.35, [(79, 111), (90, 103), (97, 106), (95, 116), (85, 120), (77, 117)], softness=1.2)
    sinus = {"frontal_sinus": (141, 88, 1.0, 1.0)}
    a.add("cavity", 0.5, [(138.5, 92.5), (138.3, 85), (141, 80), (143.6, 84.5), (143.3, 89), (141, 93)], softness=0.5,
        grows=sinus)
    a.add("fill", 0.30, [(96, 99), (132, 98), (138, 104), (136, 140), (98, 142), (92, 120)], softness=2)
    a.add("cavity", 0.52, [(104, 124), (113, 121), (125, 125), (131, 131), (131, 139.5), (118, 140.5), (104, 139)],
        softness=1.5)
    a.add("cavity", 0.42, [(108, 102), (130, 103), (137, 114), (143, 128), (143, 140), (134, 141), (128, 121),
        (110, 115)], softness=2)
    walls: list[list[Entry]] = [[(96, 103), (105, 101), (112, 106), (110, 113), (101, 113)], [(112, 101), (120, 100),
        (122, 108), (114, 113)], [(122, 101), (131, 103), (130, 111), (123, 112)], [(104, 113), (111, 119), (121, 116),
        (129, 118)], [(107, 131), (114, 127), (122, 131), (129, 129)], [(103, 124), (103, 133), (105, 140)],
        [(131, 127), (132.5, 134), (131, 140)], [(136, 110), (141, 122), (143.5, 134), "anterior_nasal_spine"]]
    for wall in walls:
        a.add("line", 0.15, wall, width=0.9)
    a.add("cavity", 0.35, [(96, 121), (99.5, 118.5), (101, 124), (98.5, 134), (97, 141), (95.5, 131)], softness=0.5)
    a.add("line", 0.24, [(99.5, 118), (95.6, 123), (95.3, 132), "posterior_nasal_spine", (99, 134), (101.4, 124),
        (99.5, 118)], width=1.0)
    # --- nasal bone, orbit rim, zygoma
    a.bone(0.34, 0.14, ["nasion", (144.6, 103), (150.5, 114), (147.5, 111.5), (141.5, 105), (137, 100)], softness=0.6)
    a.add("cavity", 0.45, ["nasion", (138, 97), (135.5, 98.4), (138, 98.4)], softness=0.2)
    a.add("dome", 0.20, [(107, 117), (124, 117), "orbitale", (124, 131), (117, 138.5), (110, 134)], softness=1.5)
    a.add("line", 0.36, [(135, 98), (128, 103), (124, 111), (124.2, 119), "orbitale", (131, 121.3), (134, 118.5)],
        width=1.3)
    a.add("line", 0.20, [(107, 117), (109, 129), (114, 138), (119, 136), (122.5, 128), (124.5, 121)], width=1.2)
    a.add("line", 0.16, [(72, 122), (86, 120), (100, 118), (110, 117)], width=2.0)
    # --- cervical spine: C1, dens, then bodies that grow taller, each with its spinous process
    a.bone(0.30, 0.12, [(64.5, 144), (67.5, 146), (67, 151), (64, 152.5), (62.5, 148)], softness=0.8)
    a.bone(0.26, 0.10, [(47, 146), (38, 145), (26, 147), (22, 151), (27, 155), (37, 152), (48, 152)], softness=1.5)
    a.bone(0.34, 0.13, [(56.5, 142), (60.5, 141), (62, 150), (63, 161), (62.5, 169), (47, 167), (49, 158), (55, 152)],
        softness=2)
    bodies: dict[float, list[Entry]] = {}
    centres = ((53.0, 178.5), (50.0, 195.0), (47.0, 211.5), (44.5, 228.0))
    for x, y in centres:
        front: list[Entry] = [(x, y - 5.6), (x + 7, y - 6), (x + 6.6, y), (x + 8, y + 6.8)]
        bodies[x] = [(x - 7.5, y - 7), *front, (x, y + 5.8), (x - 7, y + 6), (x - 6.6, y)]
        a.add("dome", 0.40, bodies[x], softness=1.6, grows={"vertebra_height": (x, y, 0.0, 1.0)})
    for x, y in centres:
        a.add("line", 0.20, [*bodies[x], bodies[x][0]], width=0.9, grows={"vertebra_height": (x, y, 0.0, 1.0)})
    spinous: list[list[Entry]] = [[(x - 7, y - 5), (x - 15, y - 3), (x - 28, y + 4), (x - 30, y + 8), (x - 24, y + 9),
        (x - 13, y + 6), (x - 8, y + 5)] for x, y in centres]
    a.bone(0.20, 0.09, *spinous, softness=1.5)
    for x, y in centres:
        a.add("fill", 0.16, [(x - 15, y - 10), (x - 8, y - 9), (x - 7, y + 2), (x - 12, y + 6), (x - 17, y)],
            softness=1.2)
    # --- pharynx (air) and hyoid
    airway: list[Entry] = [(76, 131), (90, 141), (86, 152), (79, 162), (80, 178), (82, 190), (79, 204), (76, 220),
        (76, 290), (64, 290), (64, 222), (66, 200), (69, 180), (70, 160), (71, 145)]
    a.add("cavity", 0.40, airway, softness=1.8)
    a.bone(0.18, 0.10, [(85, 205), (93, 206.5), (99, 206), (100, 210), (94, 212), (86, 208)], softness=0.8)
    # --- maxilla: alveolar bone with the hollow of point A, palate between its two spines
    alveolus: list[Entry] = ["anterior_nasal_spine", (140.2, 147.8), "subspinale_A", (140.2, 157), (142.6, 161.5),
        (139, 163.5), (128, 162), (112, 160.5), (101, 159), (98, 151), "posterior_nasal_spine", (118, 143)]
    a.add("dome", 0.34, alveolus, softness=1.5)
    a.add("line", 0.28, alveolus[:5], width=1.1)
    palate: list[Entry] = [(104, 141.7), (120, 142), (134, 141.9), (140.2, 143), "anterior_nasal_spine"]
    palate = ["posterior_nasal_spine", *palate, (139.6, 146.8), (134, 146), (118, 145.8), (104, 145.2)]
    a.add("fill", 0.42, palate, softness=0.3)
    a.add("line", 0.24, palate[:6], width=0.9)
    # --- mandible: near side, the far side as a second faint border, symphysis, canal
    mandible: list[Entry] = [(141, 177.5), (138.3, 181), "supramentale_B", (137.4, 190.5), "pogonion", "gnathion",
        "menton", (121, 201.5), (105, 193), (92, 186.8), (81, 181.3), "gonion", (68.6, 162), (67.3, 147), "articulare",
        (64.8, 126.5), (67, 122), (71.5, 121.8), (74.5, 126), (76, 134), (82, 138), (88, 134), (92, 128), (94.5, 134),
        (97, 149), (103, 162), (110, 170), (120, 174), (131, 176.5), (138, 176)]
    a.add("dome", 0.34, mandible, softness=2.2)
    a.add("line", 0.30, mandible[:16], width=1.5)
    a.add("line", 0.16, mandible[15:27], width=1.1)
    a.add("line", 0.13, [(126, 200.5), (107, 190.5), (94, 183.5), (84, 178), (76.5, 171), (72, 160), (71, 147)],
        width=1.2)
    a.add("dome", 0.26, [(140.5, 178), "supramentale_B", "pogonion", "gnathion", "menton", (127.5, 200), (130, 190),
        (134.5, 180)])
    a.add("line", 0.24, [(135, 178.5), (131, 188), (128, 198), "menton"], width=1.1)
    a.add("cavity", 0.16, [(84, 150), (90, 168), (105, 181), (122, 188.5), (121, 190.5), (103, 183.5), (87, 169)],
        softness=0.5)
    # --- side teeth: roots in bone, bright crowns, perhaps fillings; the second molars erupt, the third are buds
    for layer in ("root", "crown", "filling"):
        for x, width, eruption in ((137, 6.5, 0.0), (130.5, 6.5, 0), (124, 6.8, 0), (115.8, 9.4, 0), (105.8, 9.2, 7)):
            for up, cx in ((-1, x), (1, x - 1.5)):
                h, y = width / 2, 164.6 + 0.115 * (x - 104) + 0.4 * up
                late = {"molar_eruption": (nan, nan, 0.0, -eruption * up)} if eruption else None
                if layer == "crown":
                    cusps: list[Entry] = [(cx - h * 0.8, y), (cx - h * 0.3, y + 0.5 * up), (cx + h * 0.2, y),
                        (cx + h * 0.8, y)]
                    neck: list[Entry] = [(cx + h, y + 4 * up), (cx + h * 0.75, y + 7 * up), (cx - h * 0.75, y + 7 * up),
                        (cx - h, y + 4 * up)]
                    a.add("dome", 0.55, cusps + neck, softness=0.8, grows=late)
                elif layer == "root":
                    for rx, rw in ((cx - h / 2, h * 0.38), (cx + h / 2, h * 0.38)) if width > 9 else ((cx, h * 0.75),):
                        taper: list[Entry] = [(rx + rw * 0.5, y + 14 * up), (rx - 0.6, y + 18.5 * up),
                            (rx - rw * 0.9, y + 13 * up)]
                        a.add("dome", 0.26, [(rx - rw, y + 6.5 * up), (rx + rw, y + 6.5 * up), *taper], softness=0.8,
                            grows=late)
                elif width > 9 and not eruption:
                    inlay: list[Entry] = [(cx - 3, y), (cx + 1, y + 0.4 * up), (cx + 3.2, y), (cx + 2, y + 3.4 * up),
                        (cx - 1.5, y + 4 * up)]
                    a.add("fill", 1.8, inlay, only_if="fillings")
    buds: list[list[Entry]] = [[(x - 4, y), (x, y - 3.5), (x + 4, y), (x, y + 3.5)] for x, y in ((97.5, 153),
        (97, 166))]
    a.bone(0.22, 0.24, *buds, softness=0.8, only_if="wisdom_buds")
    a.freeze()
    return a


# fmt: on


ATLAS = _draw_reference_head()
