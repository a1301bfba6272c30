"""What a matrix is multiplied by: second moments of inputs, and how to quantize a matrix for them."""
