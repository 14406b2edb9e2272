"""The stages that a command needs, in order (driver): what is to do (plan), the images (lmdbs), each stage in a process of its
own (process, job), its solver and its loop (solver, loop), what is trained beside it (beside: for hint-dynamic KD what is in hint_dynamic), its curves for
TensorBoard (curves), what its record says (record), what a folder of runs has (status), what is said of a teacher from elsewhere
(elsewhere).

It may import base, paper, layers, networks, stages and engines.
"""
