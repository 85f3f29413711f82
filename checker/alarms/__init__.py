"""Alarms where people are: a reader of the feed that sends what is worth it, one message per episode."""
