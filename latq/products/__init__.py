"""Products estimated straight from compressed files."""
