"""What AWS itself asks of the functions, beside HTTP and queues."""
