"""Hint-based knowledge transfer on BVLC Caffe, in rooms. Each imports only from those above it (tests/test_rooms.py); the
docstring of a room says what lies in it:

    base/      command line, whole files, locks, progress: what every command stands on
    paper/     what the papers state and leave open: data sets, architectures, settings, experiments, methods
    layers/    Python layers, for what BVLC Caffe has no layer for (their names stand in committed prototxt)
    networks/  the ResNet, the losses, the kinds of network, solver files
    stages/    a stage: name, parents, files, digest; weights, snapshots, records
    engines/   Caffe or PyTorch: devices, memory, several GPUs, parity, export
    training/  the driver, the process and the loop of one stage
    results/   from records to tables, figures, claims, report; cost, workflow

Beside them without_pycaffe/: what stands for pycaffe where there is none.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).with_name("without_pycaffe")))  # the last place: a pycaffe is found before it
