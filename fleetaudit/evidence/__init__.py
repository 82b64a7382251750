"""Evidence that stands: a run's manifest, its signature, and the check of both."""
