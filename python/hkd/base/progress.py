"""How far a stage is: a bar on a terminal, a line every few hundred iterations elsewhere."""

import sys
import time

LINE_EVERY = 200  # iterations, where there is no terminal


class Progress:
    """Used as a context manager around one stage's loop."""

    def __init__(self, name, iterations, done):
        self.name, self.iterations, self.done = name, iterations, done
        self.first, self.started = done, time.monotonic()
        self.loss, self.Pc = float("nan"), ""
        self.bar = None
        if sys.stdout.isatty():
            self.bar = _bar()

    def __enter__(self):
        if self.bar:
            self.bar.start()
            self.task = self.bar.add_task(
                self.name, total=self.iterations, completed=self.done, speed=0.0, loss=self.loss, Pc=""
            )
        return self

    def __exit__(self, *_):
        if self.bar:
            self.bar.stop()

    def advance(self, loss):
        self.done += 1
        self.loss = loss
        if self.bar:
            self.bar.update(self.task, completed=self.done, speed=self._speed(), loss=loss, Pc=self.Pc)
        elif self.done % LINE_EVERY == 0:
            left = (self.iterations - self.done) / self._speed()
            self._line(f"loss {loss:.4g}, {self._speed():.2f} it/s, {left:.0f} s left")

    def tested(self, iteration, result):
        text = f"test loss {result['test_loss']:.4g}"
        if "Pc" in result:
            text += f", Pc {result['Pc']:.2f} %"
            self.Pc = f"  Pc {result['Pc']:.2f} %"
        if self.bar:
            self.bar.update(self.task, Pc=self.Pc)
        else:
            self._line(text)

    def say(self, text):
        (self.bar.console.print if self.bar else print)(f"  {text}")

    def _line(self, text):
        print(f"  {self.name}: iteration {self.done:,} of {self.iterations:,}: {text}", flush=True)

    def _speed(self):
        return (self.done - self.first) / max(time.monotonic() - self.started, 1e-9)


def _bar():
    from rich import progress  # only here: it takes a while to import
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("  {task.description}"),
        progress.BarColumn(bar_width=24),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[speed]:.2f} it/s  loss {task.fields[loss]:.4g}{task.fields[Pc]}"),
        progress.TimeRemainingColumn(),
        console=Console(),
    )
