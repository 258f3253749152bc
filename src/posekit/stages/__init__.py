"""One function per command: reads artifacts, writes artifacts, returns a `StageReport`. No stage imports another."""
