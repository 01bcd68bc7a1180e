"""A world in memory for whole nodes: networks, disk and signatures that cost little and replay from one seed.

datagrams, streams, disk, signatures   stand-ins for what a node takes from the world
scheduler                              trio, made to repeat itself
world                                  machines, and the means to hurt them
plan, churn, calamities                what a study is, who is up when, what else goes wrong
acked, checks                          what clients were told, and what must hold
study, report, plot                    months of it, and what was found

May import: node, dht and erasure. Nothing but the command line, benchmarks and tests imports it.
"""
