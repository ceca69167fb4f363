"""What is not known of the model's kernel, and its prior.

The kernel is Matern-5/2 over a *sheared* metric: axis ``k`` is measured as ``(x_k + sum over i > k
of u_ik x_i) / length_k``, so that a ridge along which two hyper-parameters change together
(balance and temperature at a constant ratio, say) costs the model no more than one along an axis.
Nominal axes count as equal or different.
"""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray

from cbal_optuna.search.replicates import KnownNoise
from cbal_optuna.search.space import Space


Array = NDArray[np.float64]

# Of standardised values over axes of length 1: medians and standard deviations of logs.
_LENGTH, LENGTH_SD = 0.5, 0.6
_NOMINAL_LENGTH = 2.0
_AMPLITUDE, _AMPLITUDE_SD = 1.0, 1.0
_NOISE, _NOISE_SD = 1e-3, 2.0
SHEAR_SD = 0.7
LITTLE_NOISE, _MUCH_NOISE = 1e-5, 1e2


@dataclass(frozen=True)
class Kernel:
    """One setting of what is not known.

    Args:
        scale:
            Positions on the numeric axes, times this lower triangular matrix, are what Euclidean
            distances are taken of.
        mismatch:
            For each nominal axis, what it adds to the squared distance of two points that differ
            there.
        amplitude:
            The variance of the objective around its mean.
        noise:
            The variance of an observation around the objective.
    """

    scale: Array
    mismatch: Array
    amplitude: float
    noise: float


class KernelPrior:
    """Log lengths, log amplitude, log noise and shears, in this order: normally distributed.

    Args:
        space:
            The search space.
        known_noise:
            What is known of how noisy an observation is.

    Attributes:
        mean, sd:
            Means and standard deviations, of shape (parameters,).
        nominal:
            Of each axis, whether it is.
        shears:
            Row and column of each shear in :attr:`Kernel.scale`.
    """

    def __init__(self, space: Space, known_noise: KnownNoise | None) -> None:
        self.nominal = np.array([axis.nominal for axis in space.axes], dtype=bool)
        # Each numeric axis is sheared by those after it.
        self.shears = np.tril_indices(int((~self.nominal).sum()), -1)
        lengths = np.where(self.nominal, math.log(_NOMINAL_LENGTH), math.log(_LENGTH))
        lengths[~self.nominal] += 0.1 * math.log(len(lengths))
        zeros = np.zeros(len(self.shears[0]))
        noise, noise_sd = _noise(known_noise)
        self.mean = np.concatenate([lengths, [math.log(_AMPLITUDE), noise], zeros])
        length_sds = np.full(len(lengths), LENGTH_SD)
        self.sd = np.concatenate([length_sds, [_AMPLITUDE_SD, noise_sd], zeros + SHEAR_SD])

    def kernel(self, whitened: Array) -> Kernel:
        """That of parameters given as how many standard deviations they are from their means."""
        parameters = self.mean + self.sd * whitened
        n_axes = len(self.nominal)
        inverse_lengths = np.exp(-parameters[:n_axes])
        scale = np.eye(int((~self.nominal).sum()))
        scale[self.shears] = parameters[n_axes + 2 :]
        scale *= inverse_lengths[~self.nominal]
        mismatch = inverse_lengths[self.nominal] ** 2
        amplitude, noise = map(math.exp, parameters[n_axes : n_axes + 2])
        return Kernel(scale, mismatch, amplitude, noise)


def _noise(known: KnownNoise | None) -> tuple[float, float]:
    """Mean and standard deviation of its log."""
    if known is None:
        return math.log(_NOISE), _NOISE_SD
    # The log of an estimated variance has a variance of about two by its degrees of freedom.
    precision, more = 1.0 / _NOISE_SD**2, known.degrees / 2.0
    log_known = math.log(min(max(LITTLE_NOISE, known.variance), _MUCH_NOISE))
    mean = (precision * math.log(_NOISE) + more * log_known) / (precision + more)
    return mean, 1.0 / math.sqrt(precision + more)
