"""From an image to the network's input in tensor operations alone: what data.preprocessing does by OpenCV.

Sizes stay tensors, and no tensor has a length that depends on their values, so that one graph serves images of any
size.
Weights are rounded where OpenCV rounds them (modules/imgproc/src/resize.cpp): then nearly every pixel is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from data.preprocessing import Preprocessing

LEAST_SHARE = 1e-3  # of a pixel: OpenCV's area average leaves smaller parts out
FIXED_POINT = 2048.0  # of the weights of OpenCV's linear resize


class FittedInput(nn.Module):
    """(H, W, 3) uint8 RGB to the input (1, 3, h, w) uint8 and, (2,) float64 each for x and y, scale and offset of the
    affine from image px to input px. `Preprocessing.views` gives the same, at most two gray levels apart, mostly
    none."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        height, width = preprocessing.input_size
        region = preprocessing.region
        self.letterbox = preprocessing.fit == "letterbox"
        self.register_buffer("room", torch.tensor([width, height], dtype=torch.float64))
        shares = [[region.left, region.top], [region.right, region.bottom]]
        self.register_buffer("region", torch.tensor(shares, dtype=torch.float64))
        self.register_buffer("columns", torch.arange(width, dtype=torch.float64))
        self.register_buffer("rows", torch.arange(height, dtype=torch.float64))

    room: Tensor
    region: Tensor
    columns: Tensor
    rows: Tensor

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        size = torch.stack([_length(image[0, :, 0]), _length(image[:, 0, 0])])
        fitted, start = self._fit(size)
        least = torch.minimum(fitted, size)
        ratio = size / least
        is_whole = (ratio == ratio.round()).all()  # OpenCV then sums before it divides
        first, second, share, inside = [], [], [], []
        for axis, cells in enumerate((self.columns, self.rows)):
            place = cells - start[axis]
            inside.append((place >= 0) & (place < fitted[axis]))
            exact = (place + 0.5) * (1 / (fitted[axis] / least[axis])) - 0.5
            exact = exact.float().double()
            last = least[axis] - 1
            below = exact.floor()
            share.append(exact - below)
            first.append(torch.minimum(below.clamp(min=0), last))
            second.append(torch.minimum((below + 1).clamp(min=0), last))
        taps = [torch.cat([first[axis], second[axis]]) for axis in (0, 1)]
        mean = _averaged(image, taps[1], size[1], ratio[1], is_whole, 0)
        mean = _averaged(mean, taps[0], size[0], ratio[0], is_whole, 1)
        mean = torch.where(is_whole, mean / (ratio[0] * ratio[1]), mean)
        halves = (ratio == 2).all()  # of which OpenCV rounds ties up, else to even
        mean = torch.where(halves, (mean + 0.5).floor(), mean.round())
        shown_whole = (self.room >= fitted).all()
        grown = self._grown(mean, share, first, least, shown_whole)
        visible = inside[1][:, None] & inside[0][None, :]
        canvas = torch.where(visible[..., None], grown, 0.0)
        scale = fitted / size
        return canvas.permute(2, 0, 1)[None].to(torch.uint8), scale, 0.5 * scale - 0.5 + start

    def _fit(self, size: Tensor) -> tuple[Tensor, Tensor]:
        """Size of the resized image and where its first pixel is, as data.geometry.fit_image has them."""
        scale = self.room / (size * (self.region[1] - self.region[0]))
        if self.letterbox:
            scale = scale.min().expand(2)
        fitted = (size * scale).round().clamp(min=1)
        spare = self.room - fitted
        middle = ((self.room - (self.region[0] + self.region[1]) * fitted) / 2).round()
        shifted = torch.maximum(spare, middle).clamp(max=0)
        return fitted, torch.where(spare >= 0, (spare / 2).floor(), shifted)

    def _grown(
        self, taps: Tensor, share: list[Tensor], first: list[Tensor], least: Tensor, shown_whole: Tensor
    ) -> Tensor:
        """Linear between the pixels (2 h, 2 w, 3): in OpenCV's fixed-point numbers where it resizes the whole image,
        else as its warp does."""
        height, width = len(self.rows), len(self.columns)
        top, bottom = taps[:height], taps[height:]
        right, down = share[0][None, :, None], share[1][:, None, None]
        upper = (1 - right) * top[:, :width] + right * top[:, width:]
        lower = (1 - right) * bottom[:, :width] + right * bottom[:, width:]
        warped = ((1 - down) * upper + down * lower).round()
        # A resize treats columns beyond the outer pixels otherwise than rows: no share of a neighbour is taken.
        flat = torch.where(first[0] >= least[0] - 1, torch.zeros_like(share[0]), share[0])[None, :, None]
        to_right, to_down = (flat * FIXED_POINT).round(), (down * FIXED_POINT).round()
        rest_right, rest_down = ((1 - flat) * FIXED_POINT).round(), ((1 - down) * FIXED_POINT).round()
        upper = ((top[:, :width] * rest_right + top[:, width:] * to_right) / 16).floor()
        lower = ((bottom[:, :width] * rest_right + bottom[:, width:] * to_right) / 16).floor()
        total = (rest_down * upper / 65536).floor() + (to_down * lower / 65536).floor()
        resized = ((total + 2) / 4).floor()
        return torch.where(shown_whole, resized, warped)


def _length(values: Tensor) -> Tensor:
    """How many there are, as a number that every exporter keeps open."""
    return torch.ones_like(values, dtype=torch.float64).sum()


def _averaged(values: Tensor, cells: Tensor, size: Tensor, ratio: Tensor, is_whole: Tensor, axis: int) -> Tensor:
    """Means along an axis of `size` values over the cells, each `ratio` >= 1 values wide: OpenCV's INTER_AREA.

    Where the ratios are whole numbers, sums instead of means. float64.
    """
    begin = cells * ratio
    end = begin + ratio
    width = torch.minimum(ratio, size - begin)
    last = torch.minimum(end.floor(), size - 1)
    first = torch.minimum(begin.ceil(), last)
    nothing = torch.zeros_like(begin)
    divisor = torch.where(is_whole, nothing + 1, width)
    before = torch.where(first - begin > LEAST_SHARE, (first - begin) / divisor, nothing)
    after = torch.where(end - last > LEAST_SHARE, torch.minimum((end - last).clamp(max=1), width) / divisor, nothing)
    before, inner, after = (weight.float().double() for weight in (before, 1 / divisor, after))
    shape = [1, 1, 1]
    shape[axis] = len(cells)
    totals = values.cumsum(axis, dtype=torch.int32 if values.dtype == torch.uint8 else None)
    at_first, at_last = first.long(), last.long()
    # Up to the cell's last value, which alone may count in part; `totals` include the value that they are at.
    edge = values.index_select(axis, at_last).double()
    between = (totals.index_select(axis, at_last) - totals.index_select(axis, at_first)).double() - edge
    between = between + values.index_select(axis, at_first).double()
    outer = values.index_select(axis, (at_first - 1).clamp(min=0)).double()
    return before.view(shape) * outer + inner.view(shape) * between + after.view(shape) * edge
