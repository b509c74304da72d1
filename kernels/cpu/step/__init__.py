"""A whole step of a model in one call of compiled code, with weights as the file stores them.

Read in this order: `team.py` runs a program with a team of threads; `program.py` is the list of operations that it
runs; a file such as `norm.py` or `attention.py` is one *unit kernel*, the code of one operation; `formats/` has one
file for each type of weights; `vectors.py` and `features.py` are the instructions that all of it is written in.
"""
