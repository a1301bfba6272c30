"""What is a URL and what a path."""

import re

# Of fsspec: protocols before the last one only say how to read what follows, as in simplecache::https://...
_URL = re.compile(r"([a-z][a-z0-9+.-]*::)*[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_url(path: str) -> bool:
    """Whether ``path`` names a file by protocol: ``https://...``, ``s3://...``, ``zip://...::https://...``."""
    return _URL.match(path) is not None
