"""What tenants configure: the records' rules, their redaction, and how operators change them."""
