"""One burst, from its raw files to its outputs: options in, a `Result` out. Calls the stages
above in their order.
"""
