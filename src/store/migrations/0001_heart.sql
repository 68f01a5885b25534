-- One SQL schema, two homes. Times are microseconds since 1970 UTC on the portal's time unless the
-- name ends in _s (whole seconds) or the comment says "our clock".

CREATE TABLE meta (
  key TEXT PRIMARY KEY,          -- 'state_id', 'secret' (32 random bytes for keyed hashes), 'created'
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- One registered portal account. `head` is the last number given out: every entry of every lane
-- takes its number from `UPDATE connection SET head = head + n ... RETURNING head`.
CREATE TABLE connection (
  id INTEGER PRIMARY KEY,
  site TEXT NOT NULL UNIQUE,
  shard INTEGER NOT NULL,
  epoch INTEGER NOT NULL DEFAULT 1,
  head INTEGER NOT NULL DEFAULT 0,
  organization_id TEXT,          -- its own organization, discovered
  first_contact INTEGER          -- when the portal was first heard
) STRICT;

CREATE TABLE organization (
  id INTEGER PRIMARY KEY,        -- short key used by `seen` and `hourly`
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  organization_id TEXT NOT NULL, -- the vendor's, lower-case; '' for rows that name none
  name TEXT,                     -- as last read
  slug TEXT NOT NULL,            -- frozen at first sight, unique within the connection
  first_seen INTEGER NOT NULL,
  last_checkin INTEGER,          -- newest check-in of any of its computers
  last_listed INTEGER,           -- when a computers walk last listed any of its computers
  UNIQUE (connection_id, organization_id),
  UNIQUE (connection_id, slug)
) STRICT;

-- (organization, source) has one claimant: the first connection to read it.
CREATE TABLE claim (
  organization_id TEXT NOT NULL,
  source TEXT NOT NULL,
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  PRIMARY KEY (organization_id, source)
) STRICT, WITHOUT ROWID;

-- source + scope + fingerprint of the query: what is scheduled and covered.
CREATE TABLE stream (
  id INTEGER PRIMARY KEY,
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  source TEXT NOT NULL,
  scope TEXT NOT NULL,           -- 'tree' or an organization id
  fingerprint TEXT NOT NULL,
  set_id INTEGER NOT NULL REFERENCES seen_set(id),
  doc TEXT NOT NULL,             -- JSON: start, observed traits, re-check watermarks, scrub, baseline
  UNIQUE (connection_id, source, scope, fingerprint)
) STRICT;

CREATE TABLE interval (
  stream_id INTEGER NOT NULL REFERENCES stream(id),
  from_s INTEGER NOT NULL,       -- inclusive
  to_s INTEGER NOT NULL,         -- exclusive
  state TEXT NOT NULL,
  listed INTEGER,                -- what the portal said
  held INTEGER,                  -- distinct rows held
  checked INTEGER,               -- when
  reason TEXT,
  PRIMARY KEY (stream_id, from_s)
) STRICT, WITHOUT ROWID;

-- Rows of one source (and part of it, a unified-audit table) of one connection, whichever stream saw them.
CREATE TABLE seen_set (
  id INTEGER PRIMARY KEY,
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  source TEXT NOT NULL,
  part TEXT NOT NULL DEFAULT '',
  UNIQUE (connection_id, source, part)
) STRICT;

CREATE TABLE seen (
  set_id INTEGER NOT NULL,
  uid BLOB NOT NULL,             -- 16 bytes
  at INTEGER NOT NULL,           -- time on the axis that the portal filters by, as far as known
  other INTEGER,                 -- time on the other axis, if the row has it
  organization INTEGER NOT NULL, -- organization.id
  gone INTEGER NOT NULL DEFAULT 0, -- 1 = the portal listed it once and does not any more
  PRIMARY KEY (set_id, uid)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_time ON seen (set_id, at, organization, gone);

-- Rows per organization and hour: the evidence that rows are usual.
CREATE TABLE hourly (
  set_id INTEGER NOT NULL,
  organization INTEGER NOT NULL,
  hour INTEGER NOT NULL,         -- hours since 1970
  rows INTEGER NOT NULL,
  last_at INTEGER NOT NULL,      -- newest row in it
  PRIMARY KEY (set_id, organization, hour)
) STRICT, WITHOUT ROWID;

-- The last known row of each thing in a snapshot source.
CREATE TABLE snapshot (
  set_id INTEGER NOT NULL,
  organization INTEGER NOT NULL,
  vendor_id TEXT NOT NULL,
  fingerprint BLOB NOT NULL,     -- 16 bytes; empty = removed
  row BLOB NOT NULL,             -- zstd of the vendor's bytes
  state TEXT NOT NULL,           -- 'present', 'missing' (absent from one complete walk), 'unknown' (held), 'removed'
  changed INTEGER NOT NULL,
  restated INTEGER NOT NULL DEFAULT 0, -- the restatement that last sent it
  PRIMARY KEY (set_id, organization, vendor_id)
) STRICT, WITHOUT ROWID;

-- How often a row had entered each fingerprint: gives every change its own uid.
CREATE TABLE occurrence (
  set_id INTEGER NOT NULL,
  organization INTEGER NOT NULL,
  vendor_id TEXT NOT NULL,
  fingerprint BLOB NOT NULL,
  count INTEGER NOT NULL,
  PRIMARY KEY (set_id, organization, vendor_id, fingerprint)
) STRICT, WITHOUT ROWID;

-- What has gone through each lane, so that the backlog of a sink is two look-ups and no scan.
CREATE TABLE lane (
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  lane INTEGER NOT NULL,
  last INTEGER NOT NULL,         -- number of its newest entry
  bytes INTEGER NOT NULL,        -- stored bytes ever appended
  pruned INTEGER NOT NULL DEFAULT 0, -- highest number deleted again
  PRIMARY KEY (connection_id, lane)
) STRICT, WITHOUT ROWID;

-- Entries, a page at a time; `body` is zstd of the MessagePack of the entries.
CREATE TABLE outbox (
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  lane INTEGER NOT NULL,
  first INTEGER NOT NULL,
  last INTEGER NOT NULL,
  source TEXT NOT NULL,
  collected INTEGER NOT NULL,
  stored INTEGER NOT NULL,       -- our clock, for the time delivered entries are kept
  lane_bytes INTEGER NOT NULL,   -- lane.bytes with this chunk counted
  body BLOB NOT NULL,
  UNIQUE (connection_id, lane, last)
) STRICT;

CREATE TABLE sink (
  name TEXT PRIMARY KEY,
  type TEXT NOT NULL,
  format TEXT NOT NULL,          -- pinned at first start
  state BLOB NOT NULL,           -- opaque, belongs to the sink
  configured INTEGER NOT NULL    -- 0 = not in the configuration any more: pins nothing
) STRICT, WITHOUT ROWID;

CREATE TABLE position (
  sink TEXT NOT NULL REFERENCES sink(name),
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  lane INTEGER NOT NULL,
  number INTEGER NOT NULL,
  PRIMARY KEY (sink, connection_id, lane)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY,
  sink TEXT,                     -- NULL: could not be read at collection, so no sink has it
  connection_id INTEGER NOT NULL REFERENCES connection(id),
  source TEXT NOT NULL,
  organization_id TEXT,
  number INTEGER,                -- of the entry, when it became one
  uid BLOB,
  vendor_id TEXT,
  reason TEXT NOT NULL,
  identity BLOB NOT NULL,        -- uid, or a hash of the body: a retry enters nothing twice
  stored INTEGER NOT NULL,       -- our clock
  body BLOB NOT NULL             -- zstd of the row or record as received
) STRICT;
CREATE UNIQUE INDEX dead_letter_once ON dead_letter (ifnull(sink, ''), connection_id, source, identity);
CREATE INDEX dead_letter_age ON dead_letter (stored);

-- Running totals, kept by triggers: asked at every poll, so never counted by a scan. 128 stands for
-- the columns and index entries beside a body.
CREATE TABLE usage (
  what TEXT PRIMARY KEY,         -- name of the table
  rows INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO usage VALUES ('outbox', 0, 0), ('dead_letter', 0, 0);

CREATE TRIGGER outbox_added AFTER INSERT ON outbox BEGIN
  UPDATE usage SET rows = rows + 1, bytes = bytes + 128 + length(NEW.body) WHERE what = 'outbox';
END;
CREATE TRIGGER outbox_deleted AFTER DELETE ON outbox BEGIN
  UPDATE usage SET rows = rows - 1, bytes = bytes - 128 - length(OLD.body) WHERE what = 'outbox';
END;
CREATE TRIGGER dead_letter_added AFTER INSERT ON dead_letter BEGIN
  UPDATE usage SET rows = rows + 1, bytes = bytes + 128 + length(NEW.body) WHERE what = 'dead_letter';
END;
CREATE TRIGGER dead_letter_deleted AFTER DELETE ON dead_letter BEGIN
  UPDATE usage SET rows = rows - 1, bytes = bytes - 128 - length(OLD.body) WHERE what = 'dead_letter';
END;
