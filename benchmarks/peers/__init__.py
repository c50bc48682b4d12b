"""Other projects' task queues, each a small program in its own environment. work.py says how they are asked.

A peer's task is the product's commit. It writes the same rows: the conversation, the job, the settled message and two
turns. They are one transaction, which is on disk when it returns, through the fastest driver that the peer can use.

A peer's settings are the fastest of those in its program's docstring, compared on two busy cores. `python -m
benchmarks.throughput arq` compares them again. All peers promise what the product promises: at least once (a job leaves
the queue after its task). Each is one process without logging, and keeps no results if it can do without.
"""
