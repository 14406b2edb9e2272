"""Layer-wise hint-based training on BVLC Caffe. Where to read:

    papers.py  ->  networks.py, solvers.py  ->  methods.py  ->  plans.py  ->  training.py  ->  records.py  ->  tables.py

Imports go in that direction only (to the right may import what is to the left).
"""
