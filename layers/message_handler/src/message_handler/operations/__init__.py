"""What keeps conversations moving and patients' data in order: the sweep, and operators' steps."""
