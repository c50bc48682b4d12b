"""The safety check: which of a patient's texts tell of danger, by rules and without any AI."""
