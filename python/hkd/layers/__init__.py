"""Layers that BVLC Caffe does not have, as Python layers. They run on the CPU, also in a network on a GPU, and need this
project's python/ folder on PYTHONPATH: run_stage.py sees to it, `caffe train` has to be told.

    fsp.py               the FSP matrix of two maps
    instance_weights.py  the weights of each image's hint losses, from
    meta_network.py      the meta-weight network, and
    history.py           what the image's weights were so far
"""
