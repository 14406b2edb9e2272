"""The steps that the meta-weight network learns by: Adam (Kingma and Ba 2015) or plain SGD, with weight decay."""

import numpy as np


class Optimizer:
    """Of some arrays of `shapes`. state: the number of steps and, of Adam, the two moments of each array."""

    BETAS, EPSILON = (0.9, 0.999), 1e-8

    def __init__(self, kind, lr, weight_decay, shapes):
        self.kind, self.lr, self.weight_decay = kind, lr, weight_decay
        self.steps = np.zeros((), np.int64)
        self.moments = [np.zeros((2, *shape)) for shape in shapes] if kind == "adam" else []

    @property
    def state(self):
        return {"steps": self.steps, **{f"moments{i}": moments for i, moments in enumerate(self.moments)}}

    def restore(self, state):
        for name, values in self.state.items():
            values[...] = state[name]

    def step(self, arrays, gradients):
        """Changes the arrays in place."""
        self.steps += 1
        for i, (array, gradient) in enumerate(zip(arrays, gradients, strict=True)):
            gradient = gradient + self.weight_decay * array
            if self.kind == "adam":
                gradient = self._adam(self.moments[i], gradient)
            array[...] = array - self.lr * gradient

    def _adam(self, moments, gradient):
        unbiased = []
        for moment, beta, power in zip(moments, self.BETAS, (1, 2), strict=True):
            moment[...] = beta * moment + (1 - beta) * gradient**power
            unbiased.append(moment / (1 - beta ** int(self.steps)))
        return unbiased[0] / (np.sqrt(unbiased[1]) + self.EPSILON)
