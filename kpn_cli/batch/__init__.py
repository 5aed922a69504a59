"""Many bursts: the plan of what becomes what, reading ahead and writing behind, and the HTML
report.
"""
