"""Hard concrete gates: random switches on [0, 1] with point masses at both ends, differentiable in
their log odds.

For one gate with log odds a, temperature t, stretch (l, h) = (-0.1, 1.1) and u uniform on (0, 1),

    s = sigmoid((log u - log(1 - u) + a) / t),     z = min(1, max(0, l + (h - l) s))
    P(z > 0) = sigmoid(a - t log(-l / h))          so that E |z|_0 = sum_i P(z_i > 0)
    at test time   z = min(1, max(0, l + (h - l) sigmoid(a)))

Louizos, Welling and Kingma, "Learning sparse neural networks through L0 regularization", ICLR 2018
(arXiv 1712.01312), sections 2.2 and 3. Slopes are written out: a step of training then costs two
sparse products and no graph.

Belongs here: the distribution, its slopes, the temperature's course. Does not belong here: losses,
optimisers, which records stay.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from calibration_core.errors import SettingsError

_QUADRATURE = tuple(tuple(float(x) for x in part) for part in np.polynomial.legendre.leggauss(24))


@dataclass(frozen=True)
class HardConcrete:
    """The distribution with its stretch.

    Attributes
    ----------
    low, high : the ends l < 0 and h > 1 that the concrete distribution is stretched to before it is
        cut to [0, 1].
    """

    low: float = -0.1
    high: float = 1.1

    def __post_init__(self) -> None:
        if not (-math.inf < self.low < 0 and 1 < self.high < math.inf):
            raise SettingsError(
                f"The stretch of the gates is {self.low:g} to {self.high:g}",
                expected="low < 0 and high > 1: else a gate is never exactly 0 or 1",
            )

    @property
    def shift(self) -> float:
        """log(-l / h)."""
        return math.log(-self.low / self.high)

    def sample(
        self, log_odds: torch.Tensor, noise: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(z, dz / da) for standard logistic noise log u - log(1 - u); all of one shape."""
        s = torch.sigmoid((noise + log_odds) / temperature)
        stretched = self.low + (self.high - self.low) * s
        inside = (stretched > 0) & (stretched < 1)
        return stretched.clamp(0.0, 1.0), torch.where(
            inside, (self.high - self.low) / temperature * s * (1 - s), torch.zeros_like(s)
        )

    def open_probability(
        self, log_odds: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(P(z > 0), its slope in a). The sum of the first is the expected L0 norm."""
        p = torch.sigmoid(log_odds - temperature * self.shift)
        return p, p * (1 - p)

    def log_odds_of(self, probability: torch.Tensor, temperature: float) -> torch.Tensor:
        """a at which P(z > 0) is ``probability``, strictly between 0 and 1."""
        return torch.logit(probability) + temperature * self.shift

    def mean(self, log_odds: torch.Tensor, temperature: float) -> torch.Tensor:
        """E z, by Gauss-Legendre quadrature of P(z > x) = sigmoid(a - t logit((x - l) / (h - l)))
        over x in (0, 1).
        """
        out = torch.zeros_like(log_odds)
        for node, weight in zip(*_QUADRATURE, strict=True):
            share = (0.5 * (node + 1) - self.low) / (self.high - self.low)
            out += (
                0.5 * weight * torch.sigmoid(log_odds - temperature * math.log(share / (1 - share)))
            )
        return out

    def test_time(self, log_odds: torch.Tensor) -> torch.Tensor:
        """The gate without noise."""
        return (self.low + (self.high - self.low) * torch.sigmoid(log_odds)).clamp(0.0, 1.0)


def logistic_noise(
    size: int | tuple[int, ...], generator: torch.Generator, dtype: torch.dtype
) -> torch.Tensor:
    """Draws of log u - log(1 - u), of that size, from ``generator``, on its device; u is kept off
    0 and 1 by the spacing of its type.
    """
    shape = (size,) if isinstance(size, int) else size
    u = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    tiny = torch.finfo(dtype).eps
    return torch.logit(u.clamp(tiny, 1 - tiny))


@dataclass(frozen=True)
class TemperatureSchedule:
    """How soft gates are while they are learned.

    Attributes
    ----------
    kind : "constant" (``end`` throughout) or "geometric" (from ``start`` to ``end`` by a constant
        factor per step, then ``end``).
    start, end : temperatures > 0; Louizos et al. use 2/3. The lower, the closer gates are to 0 and
        1, and the noisier the slopes.
    """

    kind: str = "geometric"
    start: float = 2.0 / 3.0
    end: float = 0.25

    def __post_init__(self) -> None:
        if self.kind not in ("constant", "geometric"):
            raise SettingsError(
                f"The temperature schedule is {self.kind!r}", expected="'constant' or 'geometric'"
            )
        if not (0 < self.start < math.inf and 0 < self.end < math.inf):
            raise SettingsError(
                f"Temperatures run from {self.start:g} to {self.end:g}",
                expected="finite numbers above zero",
            )

    def at(self, progress: float) -> float:
        """Temperature when a fraction ``progress`` (0 to 1; more counts as 1) of the annealing is
        done.
        """
        if self.kind == "constant":
            return self.end
        return self.start * (self.end / self.start) ** min(max(progress, 0.0), 1.0)
