"""Runs all of `template.yaml` on one machine, without Docker and without AWS: `python -m local`."""
