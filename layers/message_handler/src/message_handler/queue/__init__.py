"""The queue: where records wait for a worker, in SQS or for threads of this process, and when they come back."""
