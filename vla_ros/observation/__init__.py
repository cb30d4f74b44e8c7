"""Camera and joint messages -> Observation: decoding, per-stream buffers, time alignment."""
