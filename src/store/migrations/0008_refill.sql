-- Entries for one sink alone: dead letters that it is to try again, and what was collected for it once more. They
-- draw numbers as all entries do, and leave once the sink has confirmed them.
CREATE TABLE refill (
  sink TEXT NOT NULL,
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  source TEXT NOT NULL,
  collected INTEGER NOT NULL,    -- when the entries were first collected: their records go where they belonged then
  retried INTEGER NOT NULL,      -- 1 = refused before, and tried again
  record BLOB,                   -- of the entry, only the record with this uid
  was_lane INTEGER,              -- where an entry that the sink let go stood
  was_last INTEGER,
  body BLOB NOT NULL,
  PRIMARY KEY (sink, connection_id, last)
) STRICT;

-- What a sink far behind let go, to make room: entries that can be collected again, by their ids.
CREATE TABLE owed (
  sink TEXT NOT NULL,
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  source TEXT NOT NULL,
  uid BLOB NOT NULL,             -- 16 bytes
  lane INTEGER NOT NULL,         -- where it stood
  number INTEGER NOT NULL,
  time INTEGER NOT NULL,         -- when it happened; when it was collected, where the row did not say
  collected INTEGER NOT NULL,
  PRIMARY KEY (sink, connection_id, source, uid)
) STRICT, WITHOUT ROWID;

CREATE INDEX owed_place ON owed (sink, connection_id, lane, number);

-- How much of that there is, kept by triggers.
CREATE TABLE owed_total (
  sink TEXT NOT NULL,
  connection_id INTEGER NOT NULL,
  source TEXT NOT NULL,
  entries INTEGER NOT NULL,
  oldest INTEGER NOT NULL,       -- the earliest time of any that were ever there together
  newest INTEGER NOT NULL,       -- the latest time of any, or at which any was collected
  PRIMARY KEY (sink, connection_id, source)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER owed_added AFTER INSERT ON owed BEGIN
  INSERT INTO owed_total VALUES (NEW.sink, NEW.connection_id, NEW.source, 1, NEW.time, max(NEW.time, NEW.collected))
    ON CONFLICT DO UPDATE SET entries = entries + 1, oldest = min(oldest, NEW.time),
                              newest = max(newest, NEW.time, NEW.collected);
END;
CREATE TRIGGER owed_deleted AFTER DELETE ON owed BEGIN
  UPDATE owed_total SET entries = entries - 1
    WHERE sink = OLD.sink AND connection_id = OLD.connection_id AND source = OLD.source;
  DELETE FROM owed_total
    WHERE sink = OLD.sink AND connection_id = OLD.connection_id AND source = OLD.source AND entries = 0;
END;
-- What a sink had confirmed of a lane before it let go of entries; NULL where it has confirmed all up to `number`.
ALTER TABLE position ADD COLUMN confirmed INTEGER;
-- What it let go above this number it may have all the same, until it has recovered.
ALTER TABLE position ADD COLUMN doubtful INTEGER;

-- A stretch of a lane that a sink is to deliver again.
CREATE TABLE replay (
  id INTEGER PRIMARY KEY,
  sink TEXT NOT NULL,
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  lane INTEGER NOT NULL,
  number INTEGER NOT NULL,       -- the last entry that it has delivered again, or passed over
  last INTEGER NOT NULL,         -- the last entry of the stretch
  entries INTEGER NOT NULL,      -- that are left of it, about
  source TEXT,                   -- only this one
  from_us INTEGER NOT NULL,      -- only what was collected from then on,
  to_us INTEGER NOT NULL         -- and before then
) STRICT;

-- The entry of a dead letter, so that it can be tried again: MessagePack as in the outbox, and what it shared with
-- others of its page. NULL for letters of older versions, and for rows that could not be read when they came.
ALTER TABLE dead_letter ADD COLUMN entry BLOB;
ALTER TABLE dead_letter ADD COLUMN collected INTEGER;
ALTER TABLE dead_letter ADD COLUMN lane INTEGER;
ALTER TABLE dead_letter ADD COLUMN whole INTEGER NOT NULL DEFAULT 1; -- 0 = of the entry, only the record `uid` was refused

DROP TRIGGER dead_letter_added;
DROP TRIGGER dead_letter_deleted;
CREATE TRIGGER dead_letter_added AFTER INSERT ON dead_letter BEGIN
  UPDATE usage SET rows = rows + 1, bytes = bytes + 128 + length(NEW.body) + ifnull(length(NEW.entry), 0)
    WHERE what = 'dead_letter';
END;
CREATE TRIGGER dead_letter_deleted AFTER DELETE ON dead_letter BEGIN
  UPDATE usage SET rows = rows - 1, bytes = bytes - 128 - length(OLD.body) - ifnull(length(OLD.entry), 0)
    WHERE what = 'dead_letter';
END;

-- Covered time that a stream walks again, for what a sink is owed of it.
CREATE TABLE walk_again (
  stream_id INTEGER NOT NULL REFERENCES stream(id),
  sink TEXT NOT NULL,
  from_s INTEGER NOT NULL,       -- inclusive
  to_s INTEGER NOT NULL,         -- exclusive
  PRIMARY KEY (stream_id, sink, from_s, to_s)
) STRICT, WITHOUT ROWID;
