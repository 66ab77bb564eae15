"""Wire: frames, codec and session state, without I/O."""
