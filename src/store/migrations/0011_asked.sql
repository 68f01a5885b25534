-- Which computers a source was asked about that is asked per computer. A computer's row in `snapshot` says whether
-- there may be something new.
CREATE TABLE asked (
  set_id INTEGER NOT NULL,       -- of the source that asks
  organization INTEGER NOT NULL,
  computer TEXT NOT NULL,        -- as in `snapshot`
  at INTEGER NOT NULL,           -- when it was last asked to the end, 0 for never
  changed INTEGER NOT NULL,      -- `snapshot.changed`, when its row was last looked at
  signs BLOB NOT NULL,           -- of what in its row tells that there may be something, then
  due INTEGER NOT NULL,          -- 1 where that became different since it was asked
  PRIMARY KEY (set_id, organization, computer)
) STRICT, WITHOUT ROWID;
