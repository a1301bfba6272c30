"""From sources to files and back: transforms, codecs and codings put together, chunk by chunk."""
