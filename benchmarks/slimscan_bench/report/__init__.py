"""The benchmark report: a record in figures, as one page that needs nothing else."""
