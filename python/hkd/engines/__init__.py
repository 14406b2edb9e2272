"""What computes: Caffe or PyTorch (choice), on which devices, NVIDIA's driver (nvidia), what a network takes of a GPU (memory),
several GPUs (parallel), PyTorch on the same files (torch), the one against the other (parity), weights for others (export).

It may import base, paper, layers, networks and stages.
"""
