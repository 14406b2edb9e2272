"""Networks and solver files as protobuf messages: the ResNet in a few helpers (resnet), the losses, the matrices of
FSP (fsp_flows), the data layers (feed), what a kind of stage is (kind) with one file a kind of network (plain, hint, fsp, kd,
hint_dynamic) and their list (kinds), deploy, typed solvers, and a network as a file and as Caffe builds it (prototxt).

It may import base, paper and layers.
"""
