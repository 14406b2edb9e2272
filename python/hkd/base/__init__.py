"""What every command stands on: the command line and its errors (cli), the signals that stop it (signals), files that are
whole (files), JSON of a declared shape (shapes), one writer a folder (locks), work in a process of its own (apart), Python started again (python),
what a package says of itself (packages), progress on a terminal (progress).

It imports nothing else of this package.
"""
