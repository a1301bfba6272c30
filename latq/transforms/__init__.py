"""Arrays in, arrays out: centring, scales and rotation."""
