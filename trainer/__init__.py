"""The program that trains."""
