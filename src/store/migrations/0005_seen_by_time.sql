-- Young rows in order of their time, in which they come and leave; what finds them by uid is made anew at every
-- start.
CREATE TABLE seen_by_time (
  set_id INTEGER NOT NULL,
  at INTEGER NOT NULL,           -- time on the axis that the portal filters by, as far as known
  uid BLOB NOT NULL,             -- 16 bytes; once in a set
  other INTEGER,                 -- time on the other axis, if the row has it
  organization INTEGER NOT NULL, -- organization.id
  gone INTEGER NOT NULL DEFAULT 0, -- 1 = the portal listed it once and does not any more
  PRIMARY KEY (set_id, at, uid)
) STRICT, WITHOUT ROWID;
INSERT INTO seen_by_time (set_id, at, uid, other, organization, gone)
  SELECT set_id, at, uid, other, organization, gone FROM seen INDEXED BY seen_time ORDER BY set_id, at;
DROP TABLE seen;
ALTER TABLE seen_by_time RENAME TO seen;
