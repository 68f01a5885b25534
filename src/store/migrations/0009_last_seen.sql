-- When a device last spoke to the portal, as the computers last told. Its row in `snapshot` is as it last entered, and
-- a check-in alone is no change.
ALTER TABLE device ADD COLUMN seen INTEGER;
