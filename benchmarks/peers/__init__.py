"""Task queues that others wrote, each a small program in an environment of its own: see work.py for how they are asked.

What a peer's task does is the product's commit: the same rows (the conversation, the job, the settled message and two
turns) in one transaction that is on disk when it returns, through the fastest driver that the peer can use. Its
settings were the fastest of those that each program's docstring names, compared on two cores that others used too;
`python -m benchmarks.throughput arq` compares them again. All are set to what the product promises: at least once (a
job leaves the queue after its task), one process, no logging, and no results kept where the peer can do without.
"""
