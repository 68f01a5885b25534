-- What each sink was given on each day, for `max_per_day`: what a far side charges for runs across restarts.
CREATE TABLE sink_day (
  sink TEXT NOT NULL REFERENCES sink(name),
  day INTEGER NOT NULL,          -- days since 1970, UTC, our clock
  records INTEGER NOT NULL,
  bytes INTEGER NOT NULL,        -- as encoded, before packing
  PRIMARY KEY (sink, day)
) STRICT, WITHOUT ROWID;
