"""What a server's processes count, and a TCP port where it can be seen: metrics, a status page."""
