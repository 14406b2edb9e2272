"""What images went through before a network from elsewhere, as our networks have it, with no difference but rounding.

    (x / pixels' - mean) / std = (x - m) w, a channel each,    x: pixel values, 0 to 255

m is subtracted by the Data layer (setting input_mean), for the zeros around an image come after it; w goes into the first
convolution. Ours reads red, green, blue.
"""

from dataclasses import dataclass

import numpy as np

from hkd.base.cli import UserError
from hkd.paper.settings import OF_DATA_SET, number_text

LARGEST = 255  # of a pixel in our LMDBs
ORDERS = ("rgb", "bgr")


def float32(value):
    """The number of fewest digits that is the same in float32, as which Caffe's files keep it."""
    return float(str(np.float32(value)))


@dataclass(frozen=True)
class Input:
    """mean, std: of each channel in the network's own order, where `white` (1 or 255) is its largest pixel; None: the images are as
    our networks have them. order: of the channels, of ORDERS."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    white: int = 1
    order: str = "rgb"

    @property
    def setting(self):
        """The setting input_mean that it comes to."""
        if self.mean is None:
            return (OF_DATA_SET,)
        values = [float32(value * LARGEST / self.white) for value in self.mean]
        return tuple(map(number_text, values if self.order == "rgb" else values[::-1]))

    @property
    def words(self):
        """The same for people."""
        if self.mean is None:
            return "pixels 0 to 255 less the data set's own mean"
        numbers = [", ".join(map(number_text, values)) for values in (self.mean, self.std)]
        colours = f"{self.order.upper()} " if len(self.mean) > 1 else ""
        scaled = "pixels / 255" if self.white == 1 else "pixels 0 to 255"
        return f"{colours}{scaled}, less ({numbers[0]}), divided by ({numbers[1]})"

    def check(self, facts):
        """Raises UserError where it does not fit the images of a data set."""
        for name, values in (("--mean", self.mean), ("--std", self.std)):
            text = ",".join(map(number_text, values or ()))
            if values and len(values) != facts.channels:
                many = f"{facts.channels} number{'s' * (facts.channels > 1)}"
                raise UserError(f"{name} {text}: images of {facts.title} have {facts.channels} channels: give {many}")

    def fold(self, found):
        """Puts the factor and the order of channels into the first convolution of some Layers."""
        weight = found.blobs["conv1"][0].astype(np.float64)
        if self.mean is not None:
            weight = weight * (self.white / LARGEST / np.array(self.std)).reshape(1, -1, 1, 1)
            found.say("conv1", f"times {'1' if self.white == LARGEST else '1/255'} / std of each channel")
        if self.order == "bgr":
            weight = weight[:, ::-1]
            found.say("conv1", "channels reversed")
        found.blobs["conv1"] = [np.ascontiguousarray(weight, np.float32)]
