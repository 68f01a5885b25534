-- Rows that were seen and did not become entries, since nobody had asked for their time: where that time is
-- asked for later, each enters once and leaves this table in the same transaction.
CREATE TABLE withheld (
  set_id INTEGER NOT NULL,
  uid BLOB NOT NULL,             -- 16 bytes
  time INTEGER NOT NULL,         -- the later of its times
  PRIMARY KEY (set_id, uid)
) STRICT, WITHOUT ROWID;

-- Time that an operator asks a stream for; the stream takes it up at its next poll.
CREATE TABLE backfill (
  stream_id INTEGER NOT NULL REFERENCES stream(id),
  from_s INTEGER NOT NULL,       -- inclusive
  to_s INTEGER NOT NULL,         -- exclusive
  PRIMARY KEY (stream_id, from_s, to_s)
) STRICT, WITHOUT ROWID;
