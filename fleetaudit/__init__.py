"""Every owner of every listening socket, judged by policy, for a whole fleet."""

__version__ = "0.1.0"
