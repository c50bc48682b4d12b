"""The words of the domain as frozen values. Nothing in here reads a clock, an environment or a store."""
