"""The agent that is sent to a host, how it is packed, and how it is started there."""
