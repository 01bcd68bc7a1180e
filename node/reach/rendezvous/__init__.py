"""Meeting nodes of a network through the BitTorrent Mainline DHT (BEP 5), where nobody has to be known beforehand."""
