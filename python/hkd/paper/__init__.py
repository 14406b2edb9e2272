"""What the papers state (stated) and leave open (assumptions): the data sets (datasets) and the user's own (own), what is in their
LMDBs (contents), the shape of a ResNet (architecture), what settings may be (settings), the experiments, those in files of the user's own
(experiment_file), and the methods as lists of stages.

It may import base.
"""
