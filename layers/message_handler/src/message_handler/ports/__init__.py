"""What the use cases ask of the outside: each port is a contract that its adapters keep."""
