-- Seen rows whose hour closed a day ago leave `seen` for a pack of their organization and hour, of up to 4096
-- rows in order of (place, id). A place is twice the second of a time, and one more for what lies after the
-- beginning of the second. No new form of body without a new first byte.
CREATE TABLE seen_pack (
  id INTEGER PRIMARY KEY,
  set_id INTEGER NOT NULL,
  organization INTEGER NOT NULL,
  first INTEGER NOT NULL,        -- place of its first row
  first_id INTEGER NOT NULL,     -- id of its first row
  last INTEGER NOT NULL,         -- place of its last row
  rows INTEGER NOT NULL,
  held INTEGER NOT NULL,         -- rows that are not gone
  oldest INTEGER NOT NULL,       -- of the later places of its rows, the earliest
  oldest_gone INTEGER,           -- the same of those that are gone
  body BLOB NOT NULL
) STRICT;
CREATE INDEX seen_pack_place ON seen_pack (set_id, organization, first, first_id, last);
CREATE INDEX seen_pack_time ON seen_pack (set_id, first, last, held, oldest, oldest_gone);
