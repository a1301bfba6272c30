"""Compress matrices for multiplication: E8 nested-lattice quantization in a documented file format."""

__version__ = "0.1.0"
