"""Heatmaps: Gaussian targets of points and the way back to sub-pixel points.

Points are in input px, integers at pixel centres. Cell j of a map with stride s lies at s j + (s - 1) / 2 px.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def to_cells(points: Tensor, stride: int) -> Tensor:
    return (points - (stride - 1) / 2) / stride


def to_pixels(cells: Tensor, stride: int) -> Tensor:
    return cells * stride + (stride - 1) / 2


def gaussian_heatmaps(points: Tensor, size: tuple[int, int], stride: int, sigma: float) -> Tensor:
    """Gaussians with peak 1 around (N, K, 2) points: (N, K, h, w) for `size` (h, w), `sigma` in cells."""
    height, width = size
    cells = to_cells(points, stride)
    columns = torch.arange(width, device=points.device, dtype=points.dtype)
    rows = torch.arange(height, device=points.device, dtype=points.dtype)
    across = torch.exp(-((columns - cells[..., :1]) ** 2) / (2 * sigma**2))
    down = torch.exp(-((rows - cells[..., 1:]) ** 2) / (2 * sigma**2))
    return down[..., :, None] * across[..., None, :]


def local_expectation(log_heatmaps: Tensor, radius: int) -> Tensor:
    """Mean position, in cells, of the softmax within `radius` cells of each map's peak: (N, K, h, w) to (N, K, 2).

    Differentiable; unbiased while the window holds the whole peak, so drawn inwards next to the border.
    """
    corner, patches = _peak_patches(log_heatmaps, radius)
    weights = patches.flatten(2).softmax(dim=2)
    # Not a matrix product, which autocast would round to bfloat16's 8 bits.
    return corner + (weights[..., None] * _grid(radius, patches)).sum(dim=2)


def parabola_peak(log_heatmaps: Tensor, radius: int) -> Tensor:
    """Top of the parabola fitted to each log heatmap around its peak, in cells: (N, K, h, w) to (N, K, 2).

    A Gaussian's logarithm is a parabola, so the fit is exact for it wherever it is sampled, also where the border cuts
    it or the point lies outside. Cells weigh as much as their probability (weighted least squares of H. Guo, "A simple
    algorithm for fitting a Gaussian function", IEEE Signal Processing Magazine 2011, in two dimensions with a cross
    term). Where the fit has no top, the local expectation stands in.
    """
    maps = log_heatmaps.cpu() if log_heatmaps.device.type == "mps" else log_heatmaps  # Metal has no float64
    corner, patches = _peak_patches(maps.double(), radius)
    weights = patches.flatten(2).softmax(dim=2)
    grid = _grid(radius, patches) - radius
    x, y = grid[:, 0], grid[:, 1]
    basis = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y], dim=1)
    below_peak = patches.flatten(2) - patches.flatten(2).amax(dim=2, keepdim=True)
    values = torch.where(below_peak.isfinite(), below_peak, 0.0)  # cells outside weigh nothing
    weighted = weights[..., None] * basis
    ridge = 1e-10 * torch.eye(6, dtype=basis.dtype, device=basis.device)
    normal = basis.T @ weighted + ridge
    solve = solved_by_elimination if torch.onnx.is_in_onnx_export() else torch.linalg.solve
    fit = solve(normal, (weighted * values[..., None]).sum(dim=2))
    _, bx, by, bxx, byy, bxy = fit.unbind(dim=2)
    determinant = 4 * bxx * byy - bxy * bxy
    has_top = (bxx < 0) & (byy < 0) & (determinant > 1e-12)
    safe = torch.where(has_top, determinant, 1.0)
    top = torch.stack([bxy * by - 2 * byy * bx, bxy * bx - 2 * bxx * by], dim=2) / safe[..., None]
    near = has_top & (top.abs() <= 2 * radius).all(dim=2)
    expectation = weights @ grid
    cells = corner + radius + torch.where(near[..., None], top, expectation)
    return cells.float().to(log_heatmaps.device)


def solved_by_elimination(matrices: Tensor, right: Tensor) -> Tensor:
    """What torch.linalg.solve gives for positive definite (..., n, n) and (..., n), in operations that ONNX has."""
    size = right.shape[-1]
    rows = [torch.cat([matrices[..., i, :], right[..., i, None]], dim=-1) for i in range(size)]
    for i in range(size):  # no exchange of rows: all pivots are positive
        rows[i] = rows[i] / rows[i][..., i, None]
        for j in range(size):
            if j != i:
                rows[j] = rows[j] - rows[j][..., i, None] * rows[i]
    return torch.stack([row[..., size] for row in rows], dim=-1)


def expected_distance(log_heatmaps: Tensor, cells: Tensor) -> Tensor:
    """How far, in cells, each map expects its landmark to lie from (N, K, 2) `cells`: (N, K, h, w) to (N, K).

    The mean distance under the softmax over the whole map: a wide peak raises it, and so does a second peak far away,
    by its share of the probability. A perfect map of a Gaussian target has sigma * sqrt(pi / 2). No gradient.
    """
    height, width = log_heatmaps.shape[-2:]
    weights = log_heatmaps.detach().flatten(2).softmax(dim=2).view_as(log_heatmaps)
    columns = torch.arange(width, device=cells.device, dtype=weights.dtype)
    rows = torch.arange(height, device=cells.device, dtype=weights.dtype)
    across, down = (columns - cells.detach()[..., :1]).square(), (rows - cells.detach()[..., 1:]).square()
    return (down[..., :, None] + across[..., None, :]).sqrt_().mul_(weights).sum(dim=(2, 3))


def _peak_patches(log_heatmaps: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Windows around each map's highest cell.

    Returns the cell (x, y) of each window's first element (N, K, 2) and the windows (N, K, r, r) with r = 2 radius + 1,
    -inf outside the map.
    """
    height, width = log_heatmaps.shape[-2:]
    side = 2 * radius + 1
    peak = log_heatmaps.flatten(2).argmax(dim=2)
    row, column = peak // width, peak % width
    offsets = torch.arange(side, device=peak.device) - radius
    rows, columns = row[..., None] + offsets, column[..., None] + offsets
    inside = ((rows >= 0) & (rows < height))[..., :, None] & ((columns >= 0) & (columns < width))[..., None, :]
    flat = rows.clamp(0, height - 1)[..., :, None] * width + columns.clamp(0, width - 1)[..., None, :]
    patches = log_heatmaps.flatten(2).gather(2, flat.flatten(2)).view(*peak.shape, side, side)
    corner = torch.stack([column - radius, row - radius], dim=2).to(log_heatmaps.dtype)
    return corner, patches.masked_fill(~inside, -torch.inf)


def _grid(radius: int, like: Tensor) -> Tensor:
    """(x, y) of each element of a flattened window: (r * r, 2)."""
    steps = torch.arange(2 * radius + 1, device=like.device, dtype=like.dtype)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    return torch.stack([columns.flatten(), rows.flatten()], dim=1)


def heatmap_cross_entropy(log_heatmaps: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy (N, K) between the softmax over each map and its target, both as distributions over the cells,
    less the target's own entropy: 0 for a perfect map, with the same gradient."""
    flat = targets.flatten(2)
    distribution = flat / flat.sum(dim=2, keepdim=True).clamp_min(1e-12)
    log_softmax = F.log_softmax(log_heatmaps.flatten(2), dim=2)
    return F.kl_div(log_softmax, distribution, reduction="none").sum(dim=2)


def heatmap_squared_error(log_heatmaps: Tensor, targets: Tensor) -> Tensor:
    """Summed squared error (N, K) between each map and its target with peak 1, divided by the target's own sum."""
    error = (log_heatmaps.exp() - targets).square().flatten(2).sum(dim=2)
    return error / targets.flatten(2).sum(dim=2).clamp_min(1.0)
