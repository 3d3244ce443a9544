"""Instruction counts of the hot paths, compared with a recorded baseline: `make bench`.

Both ends run in one process, without a network: datagrams are carried by hand, time and random
numbers are the same in every run. So valgrind counts the same instructions each time, and a change
of a hundredth shows, where seconds of this or any machine would hide a tenth.
"""
