"""What the demo hosts run: programs of their own, started by path on an isolated interpreter.

Each takes an address and a port (0: any free one), and once it listens writes the port as a line to stdout.
"""
