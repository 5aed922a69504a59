"""Why the result looks as it does: kernels, weights and alignment of one burst, drawn as
figures on an HTML page.
"""
