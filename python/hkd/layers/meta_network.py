"""The meta-weight network: from what the student makes of an image to the weights of that image's hints.

One hidden layer of ReLU units, as in Meta-Weight-Net (Shu et al. 2019). Its last layer begins at zero, so that all
weights begin at 1. `parameters` are W1 (inputs x hidden), b1, W2 (hidden x hints), b2; arrays are float64 within.
np.einsum, not BLAS: the same bits with any number of threads.
"""

import numpy as np

OUTPUTS = ("softmax", "sigmoid")


def shapes(inputs, hidden, hints):
    """Of W1, b1, W2, b2: a network of one hidden layer."""
    return ((inputs, hidden), (hidden,), (hidden, hints), (hints,))


def first(inputs, hidden, hints, random_seed):
    """The parameters to begin with: He's normal for W1, zero for the others."""
    W1, *others = (np.zeros(shape) for shape in shapes(inputs, hidden, hints))
    W1 += np.random.default_rng(random_seed).normal(scale=np.sqrt(2 / inputs), size=W1.shape)
    return [W1, *others]


def forward(parameters, state, output):
    """(weights, N x hints, whose mean is 1 with softmax; what `backward` needs) for states, N x inputs.

    output: softmax, times the number of hints; or sigmoid, times 2, each hint by itself.
    """
    W1, b1, W2, b2 = (np.asarray(p, np.float64) for p in parameters)
    hidden = np.maximum(np.einsum("ni,ih->nh", state, W1) + b1, 0)
    z = np.einsum("nh,hk->nk", hidden, W2) + b2
    if output == "sigmoid":
        weights = 1 + np.tanh(z / 2)
    else:
        e = np.exp(z - z.max(axis=1, keepdims=True))
        weights = e / e.sum(axis=1, keepdims=True) * z.shape[1]
    return weights, (state, hidden, weights, W2, output)


def backward(cache, gradient):
    """The gradients of the parameters for that of the weights, N x hints."""
    state, hidden, weights, W2, output = cache
    if output == "sigmoid":
        below = gradient * weights * (2 - weights) / 2
    else:
        share = weights / weights.shape[1]
        below = weights * (gradient - (gradient * share).sum(axis=1, keepdims=True))
    into_hidden = np.einsum("nk,hk->nh", below, W2) * (hidden > 0)
    return [
        np.einsum("ni,nh->ih", state, into_hidden),
        into_hidden.sum(axis=0),
        np.einsum("nh,nk->hk", hidden, below),
        below.sum(axis=0),
    ]
