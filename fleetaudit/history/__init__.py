"""What past runs found, in SQLite or PostgreSQL. Imported on use only: SQLAlchemy is dear to start with."""
