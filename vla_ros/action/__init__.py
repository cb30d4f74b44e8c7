"""RawChunk -> ActionChunk -> targets: normalisation, rotations, frames, grippers, scheduling."""
