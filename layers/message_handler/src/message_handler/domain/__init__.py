"""The domain's values and rules, frozen and pure: nothing in this folder reads a clock, an environment or a store."""
