"""What each training image's hint weights were so far: a float32 array in a file, mapped into memory, one row an image.

A row is the number of visits, the K running means of its weights and the K running variances, neither yet corrected for
having begun at zero.
"""

import numpy as np


def create(path, images, hints):
    """A new one of zeros at `path`, a .npy file."""
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(images, 1 + 2 * hints))


def ensemble(history, index, weights, rule, mu, u, v0):
    """Enters the `weights`, N x K, of the images `index` into `history` and returns those to use:
    (1 - u) weights + u mean, where the mean over the visits, this one with it, fades by mu from visit to visit.

    rule: 'ema', u is that number; 'uncertainty', u = v / (v + v0) with v the running variance, so that an image whose
    weights vary leans on its history; 'none', the weights as they are (they are entered all the same). Both running
    numbers are divided by 1 - mu^visits, so that the first visit's mean is its weights.
    """
    hints = weights.shape[1]
    rows = history[index].astype(np.float64)
    visits, mean, variance = rows[:, :1], rows[:, 1 : 1 + hints], rows[:, 1 + hints :]
    before = mean / np.where(visits > 0, 1 - mu**visits, 1)
    seen = visits > 0
    variance = np.where(seen, mu * variance + (1 - mu) * (weights - before) ** 2, 0)
    mean = mu * mean + (1 - mu) * weights
    history[index] = np.hstack([visits + 1, mean, variance])
    if rule == "none":
        return weights
    if rule == "uncertainty":
        v = variance / np.where(seen, 1 - mu**visits, 1)
        u = v / (v + v0)
    return (1 - u) * weights + u * mean / (1 - mu ** (visits + 1))
