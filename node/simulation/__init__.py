"""A world in memory for whole nodes: networks, disk and signatures that cost little and replay from one seed."""
