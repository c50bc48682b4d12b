"""How fast it is: each figure a ratio to a peer or a limit that is measured in the same run. `make bench`."""
