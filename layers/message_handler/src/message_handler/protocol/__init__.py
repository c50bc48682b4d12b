"""A conversation's line, step by step. Every step is a pure function."""
