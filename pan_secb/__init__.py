"""Pan-SECB: real-time, proposal-free panoptic segmentation by spatial embeddings whose clustering bandwidth is learned."""
