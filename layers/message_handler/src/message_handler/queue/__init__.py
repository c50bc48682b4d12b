"""Where records wait: SQS, or threads of this process."""
