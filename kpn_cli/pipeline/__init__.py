"""One burst, from raw files to outputs: options in, a `Result` out. Calls the stages in order."""
