"""Wire protocols as pure state machines: one file each, no clock, no socket."""
