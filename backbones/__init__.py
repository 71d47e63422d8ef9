"""Networks that turn an image into features at several strides, shared by the systems, and the weights that packages bring."""
