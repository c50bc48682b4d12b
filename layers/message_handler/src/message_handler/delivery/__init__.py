"""How platforms are told what became of a job."""
