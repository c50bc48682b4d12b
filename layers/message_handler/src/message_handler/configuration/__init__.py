"""What tenants configure: the rules for records, copies without secrets, and how operators change records."""
