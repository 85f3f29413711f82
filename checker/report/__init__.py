"""What the checker says: a judged case in words, numbers and a curve, and all experiments in one list."""
