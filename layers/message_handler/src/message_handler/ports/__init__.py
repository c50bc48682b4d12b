"""The ports: for each thing that the use cases ask of the outside, the contract that its adapters keep."""
