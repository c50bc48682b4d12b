"""What happens to a patient's messages before the `202`."""
