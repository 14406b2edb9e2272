"""What the papers state (stated) and leave open (assumptions, a list a paper): the data sets (datasets) and the user's own (own_datasets), what is in their
LMDBs (contents), the shape of a ResNet (architecture), methods as lists of stages (methods), what settings may be (settings), an
experiment as one record of them (experiment), which settings a data set has (defaults), the experiments by name (experiments) and in
files of the user's own (experiment_file), and what --set changed in one (changes).

It may import base.
"""
