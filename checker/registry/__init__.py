"""What was tried, why, what came of it and what is next: views of folders of experiments, computed by reading."""
