"""How this node is reached, and how it and others come to know of each other without being told."""
