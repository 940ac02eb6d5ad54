// Nothing: the emulation has its own.
