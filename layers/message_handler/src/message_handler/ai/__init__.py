"""AI providers: their port, one file for each, and the answer within one deadline."""
