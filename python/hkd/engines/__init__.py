"""What computes: Caffe or PyTorch (choice), on which devices, NVIDIA's driver (nvidia), what a network takes of a GPU (memory),
several GPUs (parallel), PyTorch on the same files (torch), the one against the other on the same batches (same_batches), layer by layer
(parity) and loss by loss (side_by_side), weights for others (export).

It may import base, paper, layers, networks and stages.
"""
