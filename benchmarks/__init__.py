"""How fast it is. `make bench` measures each figure beside a peer or a limit in the same run."""
