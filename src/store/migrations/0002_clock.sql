-- Ages run on the portal's time also while nobody can ask it: `lockstep status` without a running program.
ALTER TABLE connection ADD COLUMN clock_offset INTEGER; -- how far the portal's time was ahead of our clock, at the last commit
