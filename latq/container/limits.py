"""The largest sizes that a container may claim: fixed by the format, or what this reader accepts."""

MAX_METADATA = 16 << 20
"""Bytes of metadata (format)."""

MAX_METADATA_DEPTH = 8
"""Nesting of arrays and objects in the metadata (format)."""

MAX_CHUNK_PAYLOAD = 1 << 30
"""Bytes of one chunk's payload (format)."""

MAX_CHUNKS = 1 << 24
"""Chunks in one file (reader)."""
