"""The program that watches."""
