"""The checker as a service: how it is started, how it says that it lives, and what it needs from the machine."""
