"""A throw-away fleet of real SSH hosts on this machine's loopback. Begin at `fleetaudit.demo.fleet`.

Nothing is imported here: a host's processes load only the module they run.
"""
