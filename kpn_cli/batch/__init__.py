"""Many bursts: planning, reading and writing while the network runs, and the HTML report."""
