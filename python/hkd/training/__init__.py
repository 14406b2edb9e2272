"""The stages that a command needs, in order (driver), one of them in a process of its own (job), its loop (loop), what its record
says (record), and what hint-dynamic KD does beside the loop (hint_dynamic).

It may import base, paper, layers, networks, stages and engines.
"""
