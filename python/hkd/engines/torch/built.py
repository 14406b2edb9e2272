"""One layer of a network as it was built."""

from dataclasses import dataclass, field

from hkd.engines.torch import layers


@dataclass
class Built:
    """One layer: its message, what runs it, and its parameter blobs."""

    layer: object
    kind: layers.Kind
    blobs: list = field(default_factory=list)
    state: object = None  # of a layer that keeps something between passes

    @property
    def own(self):
        """The layer's own parameter message (convolution_param ...)."""
        return getattr(self.layer, self.kind.message) if self.kind.message else None

    @property
    def rates(self):
        """(lr_mult, decay_mult) of each blob. BatchNorm's statistics never learn (batch_norm_layer.cpp:36-45)."""
        if self.layer.type == "BatchNorm":
            return [(0.0, 0.0)] * len(self.blobs)
        given = [(spec.lr_mult, spec.decay_mult) for spec in self.layer.param][: len(self.blobs)]
        return given + [(1.0, 1.0)] * (len(self.blobs) - len(given))

    @property
    def learns(self):
        """Whether a parameter blob of it has an lr_mult other than 0."""
        return any(lr for lr, _ in self.rates)
